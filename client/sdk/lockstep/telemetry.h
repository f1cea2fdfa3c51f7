// Counting what happened, per thread, and handing it over as mergeable deltas.
//
// Migrator does all of this by itself; services that route with Client::Route directly call these methods.
//
//   absl::StatusOr<RouteHandle> route = client->Route(orders, key);
//   ... read ...
//   client->telemetry().RecordRead(route->attribution(), domain::Arm::kOld, status.ok(), latency,
//                                  route->SubjectNamed(key));
//
// Thread-safe. Each thread counts for itself: a record takes no lock, waits for nobody, writes nothing that
// another recording thread touches (up to 256 of them at a time; those beyond share a mutex), and allocates
// only when counts of a new 5 s bucket begin and for bad events (a failed read, a mismatch), which are few.
// Memory is bounded: see TelemetryOptions.
#pragma once

#include <array>
#include <atomic>
#include <cstddef>
#include <cstdint>
#include <limits>
#include <map>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/string_view.h"
#include "absl/time/time.h"
#include "core/base/clock.h"
#include "core/base/mutex.h"
#include "core/domain/records.h"
#include "core/domain/window_stats.h"
#include "lockstep/comparator.h"
#include "lockstep/internal/asymmetric_fence.h"
#include "lockstep/internal/digest.h"
#include "lockstep/internal/thread_slot.h"

namespace lockstep {

// What a count belongs to: taken from the RouteHandle of the operation.
struct Attribution {
  uint32_t migration_index = 0;  // MigrationHandle::index()
  uint64_t generation = 0;
  uint64_t epoch = 0;
  uint64_t contract_revision = 0;

  auto operator<=>(const Attribution&) const = default;
};

// Whom an observation concerns: the record, or whoever the service names instead (a tenant, say). The gate
// certifies by distinct subjects and counts an affected one once, so every observation of one migration
// should name subjects of one kind. What has no name is counted all the same, but as of nobody in particular,
// which the gate trusts less.
struct Subject {
  absl::string_view name;  // any bytes, never kept nor sent; empty: unknown
  uint64_t salt_seed = 0;  // of the routing state
};

enum class MirrorResult : uint8_t {
  kOk,      // applied, or ignored as older
  kFailed,  // attempted and failed, or the call was given up between its two writes
  kShed,    // not attempted
};

struct TelemetryOptions {
  // Full names, by MigrationHandle::index().
  std::vector<std::string> migrations;
  std::string instance_id;
  // Samples kept per fingerprint (migration, field, kind) and flush, and thread shard; the rest is counted as
  // dropped.
  uint32_t samples_per_fingerprint = 2;
  // Secret shared by the fleet that keys the digests of values; empty: derived from the migration's salt
  // seed, which the control plane knows. See docs/semantics.md, section 6.
  std::string digest_key;
};

// How long it took to read one record from both sides, in random order. absl::InfiniteDuration() stands for a
// read that did not end in time.
struct TimedPair {
  absl::Duration from_old;
  absl::Duration from_new;
};

// One comparison that ended.
struct ComparisonRecord {
  domain::ComparisonOutcome outcome = domain::ComparisonOutcome::kMatch;
  // Only one side could be read: the pair counts for the paired error test.
  bool only_old_failed = false;
  bool only_new_failed = false;
  const std::vector<FieldDifference>* differences = nullptr;  // for kMismatch
  absl::string_view routing_key;                              // digested, never kept
  absl::string_view trace_id;
  absl::string_view subject;  // Subject::name
  // Counts as new being slower when new took more than PairedLatency::kTolerance times as long, as not slower
  // when it took less; a tie, or two reads that did not end in time, count as neither.
  std::optional<TimedPair> timed;
};

class TelemetryRecorder {
 public:
  // `clock` must outlive the recorder.
  TelemetryRecorder(TelemetryOptions options, const Clock* clock)
      : TelemetryRecorder(std::move(options), clock, internal::BestFenceKind()) {}
  // For tests.
  TelemetryRecorder(TelemetryOptions options, const Clock* clock, internal::FenceKind fences);
  ~TelemetryRecorder();

  // A read served by `arm`. `latency` is that of the serving side alone.
  void RecordRead(const Attribution& to, domain::Arm arm, bool ok, absl::Duration latency,
                  const Subject& subject = {});
  void RecordAuthoritativeWrite(const Attribution& to, bool ok);
  void RecordMirrorWrite(const Attribution& to, MirrorResult result);
  // `salt_seed` of the routing state hashes the subject, and keys the digests when no digest key was given.
  void RecordComparison(const Attribution& to, uint64_t salt_seed, const ComparisonRecord& record);
  // A comparison not made because of a cap.
  void RecordComparisonShed(const Attribution& to);
  // A failed mirror write that is going to be repaired, and a repair that is done or no longer needed. Both
  // belong to the write's attribution, whenever they happen.
  void RecordRepairQueued(const Attribution& to);
  void RecordRepairDone(const Attribution& to);
  // For backfill workers; see Client::PresentAttribution. `rows_to_copy` are rows that a worker takes on,
  // each row once: report them before copying starts, or the migration looks covered too soon. `rows_copied`
  // of them are on the new side now.
  void RecordBackfill(const Attribution& to, uint64_t rows_to_copy, uint64_t rows_copied);

  // Keeps at most so many samples of a fingerprint, flush and thread from now on, if TelemetryOptions allow
  // that many; nothing: as these say. For a server that is overloaded.
  void LimitSamples(std::optional<uint32_t> samples_per_fingerprint) {
    samples_limit_.store(samples_per_fingerprint.value_or(std::numeric_limits<uint32_t>::max()),
                         std::memory_order_relaxed);
  }

  // Takes out what was recorded since the last call, one delta for each (migration, generation, epoch,
  // contract revision, bucket), in that order.
  std::vector<domain::TelemetryDelta> Collect();

  // Everything recorded so far for one migration, collected or not: what the control plane will hold once
  // every report is acknowledged.
  domain::WindowStats Totals(uint32_t migration_index) const;

  // As in samples.
  std::string RoutingKeyDigest(uint64_t salt_seed, absl::string_view routing_key) const;

 private:
  struct Cell;
  struct Shard;
  // Deltas by what they are of; see Collect.
  using DeltaKey = std::pair<Attribution, int64_t>;

  template <typename Update>
  void Record(const Attribution& to, Update&& update);
  template <typename Update>
  void RecordAt(uint32_t slot, const Attribution& to, int64_t unix_seconds, Update&& update);
  // For a record that none of a thread's cells is for. When memory is used up, one of another bucket, or
  // null.
  Cell* NewCell(std::vector<Cell>& cells, const Attribution& to, int64_t unix_seconds);
  Shard& MakeShard(uint32_t slot);
  // The secret that keys digests.
  std::string DigestKey(uint64_t salt_seed) const;
  uint64_t AffectedId(const Subject& subject) const;
  void AddMismatch(Cell& cell, uint64_t salt_seed, const ComparisonRecord& record) const;
  // Null when the fingerprint has had its samples; that is counted.
  domain::MismatchSample* NewSample(Cell& cell, absl::string_view field, absl::string_view kind) const;
  // Moves what the threads have recorded so far to `deltas_` and `totals_`.
  void Drain() const ABSL_EXCLUSIVE_LOCKS_REQUIRED(collect_mutex_);
  void AddToDelta(Cell& cell) const ABSL_EXCLUSIVE_LOCKS_REQUIRED(collect_mutex_);

  const TelemetryOptions options_;
  const Clock* const clock_;
  const internal::FenceKind fences_;
  std::atomic<uint32_t> samples_limit_{std::numeric_limits<uint32_t>::max()};
  // By thread slot; null until a thread of that number records. The last one is shared.
  std::array<std::atomic<Shard*>, internal::kThreadSlots + 1> shards_ = {};
  Mutex shared_shard_mutex_;
  // Cells and deltas that take memory.
  mutable std::atomic<size_t> live_cells_{0};
  // Held over a whole collection, so that nothing is seen twice or not at all.
  mutable Mutex collect_mutex_;
  mutable std::map<DeltaKey, domain::TelemetryDelta> deltas_ ABSL_GUARDED_BY(collect_mutex_);
  mutable std::vector<domain::WindowStats> totals_ ABSL_GUARDED_BY(collect_mutex_);
};

}  // namespace lockstep
