#include "lockstep/telemetry.h"

#include <algorithm>
#include <iterator>
#include <map>
#include <thread>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "core/base/check.h"

namespace lockstep {
namespace {

// Memory bounds between two collections. Reached only when nobody collects.
constexpr size_t kMaxCellsPerShard = 1024;
constexpr size_t kMaxCells = 16 * kMaxCellsPerShard;

constexpr int64_t kBucketSeconds = 5;
static_assert(absl::Seconds(kBucketSeconds) == domain::kTelemetryBucket);

int64_t BucketOf(int64_t unix_seconds) {
  return unix_seconds - ((unix_seconds % kBucketSeconds) + kBucketSeconds) % kBucketSeconds;
}

// A subject's hash, if it has one.
struct SubjectTrace {
  explicit SubjectTrace(const Subject& subject)
      : known(!subject.name.empty()),
        hash(known ? domain::SubjectHash(subject.salt_seed, subject.name) : 0) {}

  const bool known;
  const uint64_t hash;
};

uint64_t NanosecondsOf(absl::Duration latency) {
  return static_cast<uint64_t>(std::max<int64_t>(0, absl::ToInt64Nanoseconds(latency)));
}

void AddTimedPair(const TimedPair& pair, domain::PairedLatency& stats) {
  const absl::Duration tolerated = pair.from_old * domain::PairedLatency::kTolerance;
  if (pair.from_new > tolerated) ++stats.slower;
  if (pair.from_new < tolerated) ++stats.not_slower;
}

void MergeOrDie(const domain::WindowStats& from, domain::WindowStats& into) {
  LOCKSTEP_CHECK(into.Merge(from).ok(), "a process can't count to 2^53");
}

}  // namespace

struct TelemetryRecorder::Cell {
  Attribution to;
  int64_t bucket_seconds = 0;
  domain::WindowStats stats;
  std::vector<domain::MismatchSample> samples;
  // Fingerprint -> samples kept. Bounded by the samples of the cell.
  std::map<std::pair<std::string, std::string>, uint32_t, std::less<>> kept;

  bool Holds(const Attribution& attribution, int64_t unix_seconds) const {
    // Unsigned: a time before the bucket is a large number.
    const auto into = static_cast<uint64_t>(unix_seconds) - static_cast<uint64_t>(bucket_seconds);
    return into < static_cast<uint64_t>(kBucketSeconds) && to == attribution;
  }
};

// What one thread records. Of its two sets of cells the thread uses the one that is open; the collector opens
// the other one, waits until the thread is out of the first (a record takes nanoseconds), and has that to
// itself until it opens it again. So the thread never waits: at most it goes over to the other set.
//
// The thread says where it is and then looks which set is open; the collector opens a set and then looks
// where the thread is. Between the two steps each has its fence of asymmetric_fence.h, so that one of the two
// sees the other, and what that costs is the collector's to pay.
struct alignas(64) TelemetryRecorder::Shard {
  static constexpr uint32_t kNowhere = 2;

  std::atomic<uint32_t> thread_is_in{kNowhere};
  std::atomic<uint32_t> open{0};
  std::array<std::vector<Cell>, 2> cells;

  // The thread, for the length of a record.
  class Stay {
   public:
    Stay(Shard& shard, internal::FenceKind fences)
        : shard_(shard), set_(shard.open.load(std::memory_order_relaxed)) {
      while (true) {
        shard.thread_is_in.store(set_, std::memory_order_release);
        LightFence(fences);
        // Acquire: the collector is done with it.
        const uint32_t now_open = shard.open.load(std::memory_order_acquire);
        if (now_open == set_) return;
        set_ = now_open;
      }
    }
    // Release, as above: the collector that sees it sees what was recorded.
    ~Stay() { shard_.thread_is_in.store(kNowhere, std::memory_order_release); }
    Stay(const Stay&) = delete;
    Stay& operator=(const Stay&) = delete;

    std::vector<Cell>& cells() const { return shard_.cells[set_]; }

   private:
    Shard& shard_;
    uint32_t set_;
  };

  // The collector, one at a time: CloseOne, a heavy fence, and TakeClosed, which returns what was recorded
  // since the last time.
  void CloseOne() { open.store(1 - open.load(std::memory_order_relaxed), std::memory_order_release); }
  std::vector<Cell>& TakeClosed() {
    const uint32_t closing = 1 - open.load(std::memory_order_relaxed);
    constexpr int kYields = 100;  // then the thread was interrupted in the middle of a record
    for (int i = 0; thread_is_in.load(std::memory_order_acquire) == closing; ++i) {
      if (i < kYields) {
        std::this_thread::yield();
      } else {
        absl::SleepFor(absl::Microseconds(50));
      }
    }
    return cells[closing];
  }
};

TelemetryRecorder::TelemetryRecorder(TelemetryOptions options, const Clock* clock, internal::FenceKind fences)
    : options_(std::move(options)), clock_(clock), fences_(fences), totals_(options_.migrations.size()) {}

TelemetryRecorder::~TelemetryRecorder() {
  for (const std::atomic<Shard*>& shard : shards_) delete shard.load(std::memory_order_acquire);
}

TelemetryRecorder::Shard& TelemetryRecorder::MakeShard(uint32_t slot) {
  auto* const shard = new Shard;
  shards_[slot].store(shard, std::memory_order_release);
  return *shard;
}

TelemetryRecorder::Cell* TelemetryRecorder::NewCell(std::vector<Cell>& cells, const Attribution& to,
                                                    int64_t unix_seconds) {
  const bool full =
      cells.size() >= kMaxCellsPerShard || live_cells_.load(std::memory_order_relaxed) >= kMaxCells;
  if (full && !cells.empty()) {
    // Loses resolution in time, but no count.
    const auto same =
        std::find_if(cells.rbegin(), cells.rend(), [&to](const Cell& cell) { return cell.to == to; });
    return same == cells.rend() ? nullptr : &*same;
  }
  live_cells_.fetch_add(1, std::memory_order_relaxed);
  return &cells.emplace_back(Cell{.to = to, .bucket_seconds = BucketOf(unix_seconds)});
}

template <typename Update>
void TelemetryRecorder::RecordAt(uint32_t slot, const Attribution& to, int64_t unix_seconds,
                                 Update&& update) {
  // Only threads of this number make its shard: one at a time.
  Shard* const made = shards_[slot].load(std::memory_order_relaxed);
  const Shard::Stay stay(made != nullptr ? *made : MakeShard(slot), fences_);
  std::vector<Cell>& cells = stay.cells();
  // The newest cells are at the back, and few are live.
  for (auto cell = cells.rbegin(); cell != cells.rend(); ++cell) {
    if (cell->Holds(to, unix_seconds)) return update(*cell);
  }
  if (Cell* const cell = NewCell(cells, to, unix_seconds)) return update(*cell);
  ++cells.back().stats.dropped.telemetry_dropped;
}

template <typename Update>
void TelemetryRecorder::Record(const Attribution& to, Update&& update) {
  const int64_t unix_seconds = clock_->CoarseUnixSeconds();
  const uint32_t slot = internal::ThreadSlot();
  if (slot == internal::kSharedThreadSlot) {
    MutexLock lock(&shared_shard_mutex_);
    return RecordAt(slot, to, unix_seconds, update);
  }
  RecordAt(slot, to, unix_seconds, update);
}

std::string TelemetryRecorder::DigestKey(uint64_t salt_seed) const {
  return options_.digest_key.empty() ? internal::KeyFromSalt(salt_seed) : options_.digest_key;
}

std::string TelemetryRecorder::RoutingKeyDigest(uint64_t salt_seed, absl::string_view routing_key) const {
  return internal::KeyedDigest(DigestKey(salt_seed), "routing key", routing_key);
}

uint64_t TelemetryRecorder::AffectedId(const Subject& subject) const {
  return internal::KeyedId(DigestKey(subject.salt_seed), "subject", subject.name);
}

void TelemetryRecorder::RecordRead(const Attribution& to, domain::Arm arm, bool ok, absl::Duration latency,
                                   const Subject& subject) {
  // Hashed before anybody may wait for the record to end. The id is the slow part, and only what failed needs
  // one.
  const SubjectTrace trace(subject);
  const uint64_t affected_id = ok || !trace.known ? 0 : AffectedId(subject);
  Record(to, [&](Cell& cell) {
    domain::ArmStats& stats = cell.stats.arm(arm);
    ++stats.requests;
    if (!ok) ++stats.errors;
    stats.latency.Record(NanosecondsOf(latency));
    if (!trace.known) return;
    const auto side = static_cast<size_t>(arm);
    cell.stats.subjects.reads[side].Record(trace.hash);
    if (!ok) cell.stats.subjects.errors[side].Record(trace.hash, affected_id);
  });
}

void TelemetryRecorder::RecordAuthoritativeWrite(const Attribution& to, bool ok) {
  Record(to, [ok](Cell& cell) {
    ++(ok ? cell.stats.writes.authoritative_ok : cell.stats.writes.authoritative_failed);
  });
}

void TelemetryRecorder::RecordMirrorWrite(const Attribution& to, MirrorResult result) {
  Record(to, [result](Cell& cell) {
    switch (result) {
      case MirrorResult::kOk:
        ++cell.stats.writes.mirror_ok;
        break;
      case MirrorResult::kFailed:
        ++cell.stats.writes.mirror_failed;
        break;
      case MirrorResult::kShed:
        ++cell.stats.writes.mirror_shed;
        break;
    }
  });
}

void TelemetryRecorder::RecordComparison(const Attribution& to, uint64_t salt_seed,
                                         const ComparisonRecord& record) {
  const domain::OutcomeKind kind = domain::InfoOf(record.outcome).kind;
  const bool mismatched = kind == domain::OutcomeKind::kMismatch;
  const Subject subject = {record.subject, salt_seed};
  const SubjectTrace trace(subject);
  const bool bad = mismatched || record.only_new_failed || record.only_old_failed;
  const uint64_t affected_id = bad && trace.known ? AffectedId(subject) : 0;
  Record(to, [&](Cell& cell) {
    ++cell.stats.comparison(record.outcome);
    if (record.only_new_failed) ++cell.stats.paired_errors.new_only;
    if (record.only_old_failed) ++cell.stats.paired_errors.old_only;
    if (record.timed.has_value()) AddTimedPair(*record.timed, cell.stats.paired_latency);
    if (mismatched) AddMismatch(cell, salt_seed, record);
    if (!trace.known) return;
    domain::SubjectStats& subjects = cell.stats.subjects;
    if (kind != domain::OutcomeKind::kNotComparable) subjects.compared.Record(trace.hash);
    if (mismatched) subjects.mismatched.Record(trace.hash, affected_id);
    if (record.only_new_failed) subjects.new_failed_only.Record(trace.hash, affected_id);
    if (record.only_old_failed) subjects.old_failed_only.Record(trace.hash, affected_id);
  });
}

void TelemetryRecorder::RecordRepairQueued(const Attribution& to) {
  Record(to, [](Cell& cell) { ++cell.stats.repairs.queued; });
}

void TelemetryRecorder::RecordRepairDone(const Attribution& to) {
  Record(to, [](Cell& cell) { ++cell.stats.repairs.done; });
}

void TelemetryRecorder::RecordBackfill(const Attribution& to, uint64_t rows_to_copy, uint64_t rows_copied) {
  if (rows_to_copy == 0 && rows_copied == 0) return;
  Record(to, [=](Cell& cell) {
    cell.stats.backfill.rows_to_copy += rows_to_copy;
    cell.stats.backfill.rows_copied += rows_copied;
  });
}

void TelemetryRecorder::RecordComparisonShed(const Attribution& to) {
  Record(to, [](Cell& cell) { ++cell.stats.dropped.comparisons_shed; });
}

domain::MismatchSample* TelemetryRecorder::NewSample(Cell& cell, absl::string_view field,
                                                     absl::string_view kind) const {
  const auto fingerprint = std::make_pair(std::string(field), std::string(kind));
  const auto kept = cell.kept.find(fingerprint);
  const uint32_t most =
      std::min(options_.samples_per_fingerprint, samples_limit_.load(std::memory_order_relaxed));
  const bool enough = (kept == cell.kept.end() ? 0 : kept->second) >= most;
  if (enough || cell.samples.size() >= domain::kMaxSamplesPerDelta) {
    ++cell.stats.dropped.samples_dropped;
    return nullptr;
  }
  ++cell.kept[fingerprint];
  domain::MismatchSample& sample = cell.samples.emplace_back();
  sample.field = fingerprint.first;
  sample.kind = fingerprint.second;
  return &sample;
}

void TelemetryRecorder::AddMismatch(Cell& cell, uint64_t salt_seed, const ComparisonRecord& record) const {
  const std::string key = DigestKey(salt_seed);
  const absl::Time now = clock_->Now();
  const auto complete = [&](domain::MismatchSample& sample) {
    sample.time = now;
    sample.key_digest = internal::KeyedDigest(key, "routing key", record.routing_key);
    sample.instance_id = options_.instance_id;
    sample.epoch = cell.to.epoch;
    sample.trace_id = std::string(record.trace_id);
  };
  if (record.outcome != domain::ComparisonOutcome::kMismatch) {
    if (domain::MismatchSample* sample = NewSample(cell, "", domain::InfoOf(record.outcome).name))
      complete(*sample);
    return;
  }
  if (record.differences == nullptr) return;
  for (const FieldDifference& difference : *record.differences) {
    domain::FieldMismatches counts;
    counts[difference.kind] = 1;
    const absl::string_view counted_as =
        difference.declared ? absl::string_view(difference.path) : domain::WindowStats::kOtherFields;
    LOCKSTEP_CHECK(cell.stats.AddFieldMismatches(counted_as, counts).ok(), "a process can't count to 2^53");
    domain::MismatchSample* const sample =
        NewSample(cell, difference.path, domain::MismatchKindName(difference.kind));
    if (sample == nullptr) continue;
    complete(*sample);
    sample->old_length = static_cast<uint32_t>(difference.old_canonical.size());
    sample->new_length = static_cast<uint32_t>(difference.new_canonical.size());
    if (difference.sensitive) continue;
    const std::string purpose = absl::StrCat("field ", difference.path);
    if (difference.kind != domain::MismatchKind::kExtra) {
      sample->old_digest = internal::KeyedDigest(key, purpose, difference.old_canonical);
    }
    if (difference.kind != domain::MismatchKind::kMissing) {
      sample->new_digest = internal::KeyedDigest(key, purpose, difference.new_canonical);
    }
  }
}

void TelemetryRecorder::AddToDelta(Cell& cell) const {
  domain::WindowStats& total = totals_[cell.to.migration_index];
  MergeOrDie(cell.stats, total);
  const auto [found, inserted] = deltas_.try_emplace({cell.to, cell.bucket_seconds});
  domain::TelemetryDelta& delta = found->second;
  if (inserted) {
    delta.migration = options_.migrations[cell.to.migration_index];
    delta.generation = cell.to.generation;
    delta.epoch = cell.to.epoch;
    delta.contract_revision = cell.to.contract_revision;
    delta.bucket_start = absl::FromUnixSeconds(cell.bucket_seconds);
    delta.stats = std::move(cell.stats);
  } else {
    MergeOrDie(cell.stats, delta.stats);
    live_cells_.fetch_sub(1, std::memory_order_relaxed);
  }
  std::move(cell.samples.begin(), cell.samples.end(), std::back_inserter(delta.samples));
  if (delta.samples.size() > domain::kMaxSamplesPerDelta) {
    const size_t excess = delta.samples.size() - domain::kMaxSamplesPerDelta;
    delta.stats.dropped.samples_dropped += excess;
    total.dropped.samples_dropped += excess;
    delta.samples.resize(domain::kMaxSamplesPerDelta);
  }
}

void TelemetryRecorder::Drain() const {
  std::vector<Shard*> shards;
  for (const std::atomic<Shard*>& slot : shards_) {
    Shard* const shard = slot.load(std::memory_order_acquire);
    if (shard == nullptr) continue;
    shard->CloseOne();
    shards.push_back(shard);
  }
  HeavyFence(fences_);  // one for all of them
  for (Shard* const shard : shards) {
    std::vector<Cell>& cells = shard->TakeClosed();
    for (Cell& cell : cells) AddToDelta(cell);
    cells.clear();  // keeps its place for the next ones
  }
}

std::vector<domain::TelemetryDelta> TelemetryRecorder::Collect() {
  MutexLock collecting(&collect_mutex_);
  Drain();
  std::vector<domain::TelemetryDelta> result;
  result.reserve(deltas_.size());
  for (auto& [key, delta] : deltas_) result.push_back(std::move(delta));
  live_cells_.fetch_sub(deltas_.size(), std::memory_order_relaxed);
  deltas_.clear();
  return result;
}

domain::WindowStats TelemetryRecorder::Totals(uint32_t migration_index) const {
  MutexLock collecting(&collect_mutex_);
  Drain();
  return totals_[migration_index];
}

}  // namespace lockstep
