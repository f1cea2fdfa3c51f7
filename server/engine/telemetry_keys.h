// How the telemetry aggregator uses the keys of its tables.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <utility>

#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/string_view.h"
#include "absl/time/time.h"
#include "core/domain/bucketing.h"
#include "server/store/tables.h"

namespace lockstep::engine {

// The bucket of the table windows that holds the total of a generation: no count is of 1970.
inline constexpr int64_t kTotalBucketSeconds = 0;

// How long to wait before sending to a queue that is full, or about to be.
inline constexpr absl::Duration kRetryAfter = absl::Milliseconds(500);

// The row of a session: "{instance}/{session}". Instance ids contain no '/'.
inline std::string SessionRowKey(absl::string_view instance, uint64_t session) {
  return store::TelemetrySequenceKey(absl::StrCat(instance, "/", session));
}

inline std::optional<std::pair<std::string, uint64_t>> ParseSessionKey(absl::string_view key) {
  const size_t slash = key.rfind('/');
  uint64_t session = 0;
  if (slash == absl::string_view::npos || !absl::SimpleAtoi(key.substr(slash + 1), &session))
    return std::nullopt;
  return std::make_pair(std::string(key.substr(0, slash)), session);
}

// What samples are grouped by; stable, since it is stored.
inline uint64_t Fingerprint(absl::string_view field, absl::string_view kind) {
  return domain::KeyHash(domain::SaltSeed(kind), field);
}

}  // namespace lockstep::engine
