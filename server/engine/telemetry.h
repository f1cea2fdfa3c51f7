// The telemetry aggregator: takes in batches exactly once and keeps the sums.
//
// Exactly once. A batch is identified by (instance, session, sequence). It is acknowledged only when the
// commit that holds both its counts and its sequence is durable, so a repeat is recognised after a crash too.
// One flusher thread merges whatever has queued up into one commit; sums in memory change only after that
// commit succeeded.
//
// Placement in time. A bucket (5 s of event time) is open until kBucketGrace after its end by the server's
// clock, then closed for good: the gate reads closed buckets only. Counts for a closed bucket go into the
// oldest open one, counts for a future one into that of now; more than kMaxFuture ahead is refused (a wrong
// clock).
//
// What is evidence. Counts of an older contract revision, or of operations routed before the present evidence
// began (TelemetryTarget::first_evidence_epoch), are part of the totals and of no bucket. Counts of an older
// generation are acknowledged, reported as stale and in no total.
//
// On disk: table windows holds one record per (migration, generation, bucket) plus, under bucket 0, the total
// of the generation, so that totals do not depend on how long buckets are kept.
#pragma once

#include <cstdint>
#include <deque>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "absl/functional/function_ref.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "absl/time/time.h"
#include "absl/types/span.h"
#include "core/base/clock.h"
#include "core/base/mutex.h"
#include "core/domain/records.h"
#include "server/engine/registry.h"
#include "server/store/record_codec.h"
#include "server/store/store.h"

namespace lockstep::engine {

inline constexpr absl::Duration kBucketGrace = absl::Seconds(2);
inline constexpr absl::Duration kMaxFuture = absl::Hours(1);
// Per fingerprint (field and kind) and generation the newest ones are kept.
inline constexpr uint64_t kSamplesPerFingerprint = 20;
inline constexpr size_t kFingerprintsPerGeneration = 1000;
// A session that was silent for so long is forgotten.
inline constexpr absl::Duration kSessionRetention = absl::Hours(7 * 24);

// What became of a batch.
struct TelemetryReceipt {
  bool duplicate = false;     // it had been counted before
  uint32_t stale_deltas = 0;  // acknowledged, not counted: of an older generation
  // The queue is more than half full: send the next batch after this long.
  std::optional<absl::Duration> retry_after = std::nullopt;
  // Then also: keep at most so many samples of a fingerprint for it.
  std::optional<uint32_t> samples_per_fingerprint = std::nullopt;
};

// What a generation has still to do, for level metrics.
struct OutstandingWork {
  domain::RepairStats repairs;
  domain::BackfillStats backfill;
};

struct TelemetryCounters {
  uint64_t batches = 0;
  uint64_t duplicate_batches = 0;
  uint64_t stale_deltas = 0;
  uint64_t late_deltas = 0;  // went into a later bucket than their own
  uint64_t void_deltas = 0;  // in the totals, but not evidence
  uint64_t samples_stored = 0;
  uint64_t samples_dropped = 0;  // by the server: too many fingerprints
  uint64_t queued_batches = 0;   // now
  uint64_t refused_batches = 0;  // the queue was full
};

// Thread-safe. Lock order: no lock of the registry is taken while mutex_ is held.
class Telemetry {
 public:
  struct Options {
    // What may wait; as much again may be on its way to the disk. More is told to come a little later. A
    // batch that is larger than all of it is taken when nothing else waits.
    size_t max_queued_batches = 1000;
    size_t max_queued_bytes = 128 << 20;  // as MemoryOf estimates it
  };
  using Done = std::function<void(absl::StatusOr<TelemetryReceipt>)>;

  // Owns none of the arguments.
  Telemetry(store::Store* store, const store::RecordCodec* codec, const Clock* clock,
            const Registry* registry, Options options);
  // Stops first.
  ~Telemetry();
  Telemetry(const Telemetry&) = delete;
  Telemetry& operator=(const Telemetry&) = delete;

  // Loads cursors, totals, open buckets and sample counts. Once, after Registry::Recover.
  absl::Status Recover();
  void Start();
  // Works off the queue and ends the flusher; later reports are UNAVAILABLE.
  void Stop();

  // `done` is called exactly once, on the flusher thread or, for a batch refused at once, before Report
  // returns. It must not block. Errors (nothing of the batch is counted):
  //   INVALID_ARGUMENT    counts that cannot be, a generation or contract that does not exist yet, a time too
  //   far in
  //                       the future, limits of core/domain/records.h
  //   NOT_FOUND           MIGRATION_NOT_FOUND
  //   OUT_OF_RANGE        SEQUENCE_GAP, metadata "expected_sequence"; or a total would pass its range
  //   RESOURCE_EXHAUSTED  QUEUE_FULL, metadata "retry_after_ms"; or the disk is full
  //   UNAVAILABLE         stopping, or STORE_FAILED: the outcome of a commit is unknown; see health()
  void Report(domain::TelemetryBatch batch, Done done);

  // OK, or why nothing is taken in any more: a commit whose outcome is unknown may have been counted, so
  // nothing is acknowledged until a restart has read what is there.
  absl::Status health() const;

  // The sum over one generation, evidence or not; zero when nothing was reported.
  domain::WindowStats Totals(absl::string_view migration, uint64_t generation) const;
  // As Totals(...).repairs, without a copy of all the rest.
  domain::RepairStats Repairs(absl::string_view migration, uint64_t generation) const;
  // The sum over all generations of a migration since it was created.
  domain::WindowStats LifetimeTotals(absl::string_view migration) const;

  // Closes every bucket whose time is up at `now` and returns the moment before which all are closed; it
  // never goes back. No count will be added to a closed bucket.
  absl::Time CloseBuckets(absl::Time now);
  // What is outstanding in a generation, evidence or not, by the buckets that were closed when all before
  // `closed_before` were. Counts that are in no bucket (see above) count at once. `closed_before` is not
  // later than what CloseBuckets returned.
  absl::StatusOr<OutstandingWork> OutstandingBefore(absl::string_view migration, uint64_t generation,
                                                    absl::Time closed_before) const;
  // When the last batch of an instance was counted, by the server's clock; InfinitePast when none was within
  // kSessionRetention. Survives a restart.
  absl::Time LastReport(const std::string& instance_id) const;
  // Visits the buckets of [from, to) that are evidence under `contract_revision`, in order of time.
  absl::Status ReadBuckets(absl::string_view migration, uint64_t generation, uint64_t contract_revision,
                           absl::Time from, absl::Time to,
                           absl::FunctionRef<void(const domain::WindowRecord&)> visit) const;

  // Newest first, at most `limit` after skipping `offset`; of the present generation.
  absl::StatusOr<std::vector<domain::MismatchSample>> ListSamples(absl::string_view migration, size_t offset,
                                                                  size_t limit) const;

  // Forgets a deleted migration and removes its rows, in several commits.
  absl::Status Forget(const std::string& migration);

  TelemetryCounters counters() const;

 private:
  struct Queued {
    domain::TelemetryBatch batch;
    Done done;
    size_t bytes = 0;
  };
  using SessionKey = std::pair<std::string, uint64_t>;  // instance, session
  struct GenerationState {
    domain::WindowStats total;
    std::map<absl::Time, domain::WindowRecord> open;  // buckets that are not closed
    std::map<uint64_t, uint64_t> next_sample;         // by fingerprint: the next sequence
  };
  using GenerationKey = std::pair<std::string, uint64_t>;  // migration, generation
  using Targets = std::map<std::string, TelemetryTarget>;
  // Where the counts of a delta go.
  struct Placement {
    bool stale = false;  // nowhere
    bool late = false;
    bool evidence = true;  // else into the total alone
    absl::Time bucket;
  };
  struct StagedGeneration;
  struct Staged;

  absl::Status RecoverCursors() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  absl::Status RecoverGeneration(const GenerationKey& key) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  absl::Status ScanBuckets(absl::string_view migration, uint64_t generation, absl::Time from, absl::Time to,
                           absl::FunctionRef<void(const domain::WindowRecord&)> visit) const;

  bool HasRoomFor(size_t bytes) const ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  void FlushLoop();
  // Returns when `count` batches are queued, after `patience`, or when stopping.
  void AwaitQueued(size_t count, absl::Duration patience) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  void Flush(std::vector<Queued> batches);
  // Whether the queue is more than half full.
  bool IsCrowded() const;
  using Results = std::vector<absl::StatusOr<TelemetryReceipt>>;
  // Counts `batches` in one commit and returns what became of each.
  Results CommitBatches(absl::Span<const Queued> batches);
  Targets FindTargets(absl::Span<const Queued> batches) const;
  Results StageAll(absl::Span<const Queued> batches, const Targets& targets, absl::Time now, absl::Time floor,
                   Staged* staged) const ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  // Without effect on `staged` unless it succeeds or sets staged->torn.
  absl::StatusOr<TelemetryReceipt> Stage(const domain::TelemetryBatch& batch, const Targets& targets,
                                         absl::Time now, absl::Time floor, Staged* staged) const
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  static Placement Place(const domain::TelemetryDelta& delta, const TelemetryTarget& target, absl::Time now,
                         absl::Time floor);
  StagedGeneration* FindStaged(const GenerationKey& key, Staged* staged) const
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  absl::Status AddToBucket(const GenerationKey& key, const domain::TelemetryDelta& delta, absl::Time bucket,
                           StagedGeneration* generation) const ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  void StageSamples(const GenerationKey& key, const domain::TelemetryBatch& batch,
                    const domain::TelemetryDelta& delta, Staged* staged, StagedGeneration* generation) const;
  void StageForgottenSessions(absl::Time now, Staged* staged) const ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  store::WriteBatch RowsOf(const Staged& staged) const;
  void Merge(Staged staged, absl::Time now) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);

  store::Store* const store_;
  const store::RecordCodec* const codec_;
  const Clock* const clock_;
  const Registry* const registry_;
  const Options options_;

  mutable Mutex mutex_;
  CondVar wake_;
  bool running_ ABSL_GUARDED_BY(mutex_) = false;
  bool stopping_ ABSL_GUARDED_BY(mutex_) = false;
  std::vector<Queued> queue_ ABSL_GUARDED_BY(mutex_);
  size_t queued_bytes_ ABSL_GUARDED_BY(mutex_) = 0;
  // The flusher is woken when so many are queued.
  size_t wanted_ ABSL_GUARDED_BY(mutex_) = 1;
  absl::Status health_ ABSL_GUARDED_BY(mutex_);
  std::map<SessionKey, domain::TelemetryCursor> cursors_ ABSL_GUARDED_BY(mutex_);
  std::map<GenerationKey, GenerationState> generations_ ABSL_GUARDED_BY(mutex_);
  absl::Time closed_before_ ABSL_GUARDED_BY(mutex_) = absl::UnixEpoch();
  // The oldest bucket that the commit under way may add to.
  std::optional<absl::Time> flushing_from_ ABSL_GUARDED_BY(mutex_);
  absl::Time next_forgetting_ ABSL_GUARDED_BY(mutex_) = absl::InfinitePast();
  TelemetryCounters counters_ ABSL_GUARDED_BY(mutex_);

  std::thread flusher_;
};

}  // namespace lockstep::engine
