// The stage ladder as one table (docs/semantics.md, section 2).
//
// A new stage is one enumerator and one row here; -Werror=switch lists every other place to change.
#pragma once

#include <array>
#include <cstdint>
#include <optional>

#include "absl/strings/string_view.h"

namespace lockstep::domain {

// Where a migration stands. The order of the enumerators is the order of the ladder.
enum class Stage : uint8_t { kOff, kDualWrite, kShadowRead, kCanaryRead, kCutover, kNewOnly, kComplete };

inline constexpr std::array<Stage, 7> kAllStages = {Stage::kOff,        Stage::kDualWrite, Stage::kShadowRead,
                                                    Stage::kCanaryRead, Stage::kCutover,   Stage::kNewOnly,
                                                    Stage::kComplete};

struct LadderRow {
  Stage stage;
  absl::string_view name;             // as in the API: "DUAL_WRITE"
  bool writes_old;                    // some bucket's writes reach the old side
  bool writes_new;                    // some bucket's writes reach the new side
  bool may_serve_new;                 // reads of some bucket may be answered by the new side
  bool compares;                      // both sides may be read and compared
  std::optional<Stage> roll_back_to;  // where a rollback from here leads; none: there is no way back
  absl::string_view summary;          // one clause for people
};

// Rows in ladder order. The reference stays valid for ever.
const std::array<LadderRow, 7>& Ladder();
const LadderRow& LadderRowOf(Stage stage);

absl::string_view StageName(Stage stage);
std::optional<Stage> ParseStage(absl::string_view name);

}  // namespace lockstep::domain
