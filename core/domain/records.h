// What is kept besides the migration itself: why it changed, who did it, who is enrolled, what was seen.
#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <vector>

#include "absl/strings/string_view.h"
#include "absl/time/time.h"
#include "core/domain/gate.h"
#include "core/domain/migration.h"
#include "core/domain/window_stats.h"

namespace lockstep::domain {

// Why a migration changed. Committed in one batch with the change.
struct DecisionRecord {
  std::string migration;
  uint64_t number = 0;  // 1, 2, ... within the migration
  absl::Time time = absl::InfinitePast();
  std::string actor;  // "user:ann@host" or "gate"
  // Transition::action, or "create", "update"; of the fences: "slice" (a hop), "publish" (the goal),
  // "release" (a hold was given up); "drill", "evict".
  std::string action;
  std::string reason;
  RoutingState before;
  RoutingState after;  // epoch 0 while it waits to be published
  RunState run_state = RunState::kDraft;
  int step = -1;
  uint64_t plan_revision = 0;
  std::optional<GateResult> evidence;
};

// One line of the audit log; also for what leaves no decision record (deletes, refused overrides).
struct AuditEntry {
  uint64_t number = 0;  // 1, 2, ... over the whole server
  absl::Time time = absl::InfinitePast();
  std::string actor;
  std::string action;
  std::string resource;
  std::string reason;
  uint64_t revision = 0;  // store revision of the commit it belongs to
};

// What an instance does when its lease ends.
enum class LeasePolicy : uint8_t {
  kKeepServing,  // goes on with its last epochs; fences wait until it is back, leaves or is evicted
  kFailWrites,   // refuses writes, so that fences need not wait for it any more
};

absl::string_view LeasePolicyName(LeasePolicy policy);  // "KEEP_SERVING"

inline constexpr absl::Duration kDefaultLeaseTtl = absl::Seconds(15);
inline constexpr absl::Duration kMinLeaseTtl = absl::Seconds(1);
inline constexpr absl::Duration kMaxLeaseTtl = absl::Minutes(10);

// What keeps an instance from letting go of older epochs, over all its migrations, as it last said.
struct InstanceStatus {
  uint32_t operations = 0;
  absl::Duration oldest_operation = absl::ZeroDuration();
  uint32_t repairs = 0;
  uint32_t queued_mirrors = 0;
  uint32_t held_writes = 0;
  bool operator==(const InstanceStatus&) const = default;
};

// "3 operations, oldest 12 s; 2 repairs"; empty when there is nothing.
std::string DescribeStatus(const InstanceStatus& status);

// What an instance found when it compared the records of a held slice that it has written lately.
struct SliceCheck {
  std::string migration;
  uint64_t epoch = 0;  // the one that holds the slice
  uint32_t checked = 0;
  uint32_t repaired = 0;
  uint32_t differing = 0;  // still differ: the slice must not move
  // Of the first that differs, in words; without one, of the first that could not be compared.
  std::string example;
  // Could not be compared, since a side could not be read; in none of the counts above. The slice must not
  // move towards new.
  uint32_t unchecked = 0;
  bool operator==(const SliceCheck&) const = default;
};

// A durable enrolment. Kept until the instance leaves or is evicted, connected or not.
struct Enrolment {
  std::string instance_id;
  std::string service;
  std::string version;
  std::vector<std::string> migrations;
  // Per migration: the oldest epoch the instance may still act on.
  std::map<std::string, uint64_t> acknowledged_epochs;
  absl::Time enrolled_at = absl::InfinitePast();
  absl::Duration lease_ttl = kDefaultLeaseTtl;
  LeasePolicy lease_policy = LeasePolicy::kKeepServing;
  // The lease of a FAIL_WRITES instance ended: it has written nothing by its recorded epochs since, though it
  // may still read by them. Until it enrols anew.
  bool passed_by = false;
  // As it last said, it has repairs or queued mirror writes: writes that only it can bring to the other side.
  bool owes_mirrors = false;
};

// One comparison that did not match, without raw values. Digests are keyed; see docs/semantics.md, section 6.
struct MismatchSample {
  absl::Time time = absl::InfinitePast();
  std::string field;
  std::string kind;  // "value", "type", "missing", "extra", "order", "missing_in_new", "missing_in_old"
  std::string key_digest;
  std::string old_digest;
  std::string new_digest;
  uint32_t old_length = 0;
  uint32_t new_length = 0;
  std::string instance_id;
  uint64_t epoch = 0;
  std::string trace_id;
};

// What one instance reports about one migration and one 5 s bucket of event time.
struct TelemetryDelta {
  std::string migration;
  uint64_t generation = 0;
  uint64_t epoch = 0;
  uint64_t contract_revision = 0;
  absl::Time bucket_start = absl::UnixEpoch();
  WindowStats stats;
  std::vector<MismatchSample> samples;
};

inline constexpr absl::Duration kTelemetryBucket = absl::Seconds(5);
inline constexpr size_t kMaxDeltasPerBatch = 1000;
inline constexpr size_t kMaxSamplesPerDelta = 100;

struct TelemetryBatch {
  std::string instance_id;
  uint64_t session = 0;
  uint64_t sequence = 0;
  std::vector<TelemetryDelta> deltas;
};

// The last batch counted for one (instance, session).
struct TelemetryCursor {
  uint64_t sequence = 0;
  absl::Time last_seen = absl::InfinitePast();
};

// The sum over instances of one closed or open bucket. Evidence of other contract revisions is kept apart.
struct WindowRecord {
  std::string migration;
  uint64_t generation = 0;
  uint64_t contract_revision = 0;
  absl::Time bucket_start = absl::UnixEpoch();
  WindowStats stats;
};

}  // namespace lockstep::domain
