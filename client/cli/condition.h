// What `lockstep wait --for` waits for. Pure.
#pragma once

#include <cstdint>
#include <variant>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "lockstep/v1/migration.pb.h"

namespace lockstep::cli {

inline constexpr char kConditionHelp[] =
    "stage=STAGE, weight=5% of reads or write_weight=5% (at least that far, published), running, paused, "
    "rolled_back, succeeded, "
    "published (nothing pends)";

struct StageReached {
  v1::Stage stage;
};
struct WeightReached {
  uint32_t weight;  // in buckets
};
struct WriteWeightReached {
  uint32_t weight;  // in buckets
};
struct InRunState {
  v1::RunState state;
};
struct NothingPending {};

using Condition = std::variant<StageReached, WeightReached, WriteWeightReached, InRunState, NothingPending>;

absl::StatusOr<Condition> ParseCondition(absl::string_view text);

enum class Progress {
  kNotYet,
  kReached,
  kWillNot,  // it went back, or ended elsewhere: waiting longer is in vain until somebody acts
};

// A migration that was rolled back has reached nothing but that, wherever it stands: of what it had reached,
// the rollback is the news.
Progress Judge(const Condition& condition, const v1::Migration& migration);

}  // namespace lockstep::cli
