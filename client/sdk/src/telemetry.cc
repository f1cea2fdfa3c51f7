#include "lockstep/telemetry.h"

#include <algorithm>
#include <map>
#include <tuple>
#include <utility>

#include "absl/strings/str_cat.h"
#include "core/base/check.h"

namespace lockstep {
namespace {

// Memory bound of one shard between two collections. Reached only when nobody collects.
constexpr size_t kMaxCellsPerShard = 1024;

int64_t BucketOf(absl::Time now) {
  const int64_t width = absl::ToInt64Seconds(domain::kTelemetryBucket);
  const int64_t seconds = absl::ToUnixSeconds(now);
  return seconds - ((seconds % width) + width) % width;
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
};

struct alignas(64) TelemetryRecorder::Shard {
  Mutex mutex;
  std::vector<Cell> cells ABSL_GUARDED_BY(mutex);
};

TelemetryRecorder::TelemetryRecorder(TelemetryOptions options, const Clock* clock)
    : options_(std::move(options)),
      clock_(clock),
      shards_(std::make_unique<std::array<Shard, internal::kThreadShards>>()),
      collected_totals_(options_.migrations.size()) {}

TelemetryRecorder::~TelemetryRecorder() = default;

template <typename Update>
void TelemetryRecorder::Record(const Attribution& to, Update&& update) {
  const absl::Time now = clock_->Now();
  const int64_t bucket = BucketOf(now);
  Shard& shard = (*shards_)[internal::ThreadShard()];
  MutexLock lock(&shard.mutex);
  // The newest cells are at the back, and few are live.
  Cell* same_attribution = nullptr;
  for (auto cell = shard.cells.rbegin(); cell != shard.cells.rend(); ++cell) {
    if (cell->to != to) continue;
    if (cell->bucket_seconds == bucket) return update(*cell, now);
    if (same_attribution == nullptr) same_attribution = &*cell;
  }
  if (shard.cells.size() < kMaxCellsPerShard) {
    shard.cells.push_back({.to = to, .bucket_seconds = bucket});
    update(shard.cells.back(), now);
  } else if (same_attribution != nullptr) {
    update(*same_attribution, now);  // loses resolution in time, but no count
  } else {
    ++shard.cells.back().stats.dropped.telemetry_dropped;
  }
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
  // Hashed before the lock is taken. The id is the slow part, and only what failed needs one.
  const SubjectTrace trace(subject);
  const uint64_t affected_id = ok || !trace.known ? 0 : AffectedId(subject);
  Record(to, [&](Cell& cell, absl::Time) {
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
  Record(to, [ok](Cell& cell, absl::Time) {
    ++(ok ? cell.stats.writes.authoritative_ok : cell.stats.writes.authoritative_failed);
  });
}

void TelemetryRecorder::RecordMirrorWrite(const Attribution& to, MirrorResult result) {
  Record(to, [result](Cell& cell, absl::Time) {
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
  Record(to, [&](Cell& cell, absl::Time now) {
    ++cell.stats.comparison(record.outcome);
    if (record.only_new_failed) ++cell.stats.paired_errors.new_only;
    if (record.only_old_failed) ++cell.stats.paired_errors.old_only;
    if (record.timed.has_value()) AddTimedPair(*record.timed, cell.stats.paired_latency);
    if (mismatched) AddMismatch(cell, salt_seed, record, now);
    if (!trace.known) return;
    domain::SubjectStats& subjects = cell.stats.subjects;
    if (kind != domain::OutcomeKind::kNotComparable) subjects.compared.Record(trace.hash);
    if (mismatched) subjects.mismatched.Record(trace.hash, affected_id);
    if (record.only_new_failed) subjects.new_failed_only.Record(trace.hash, affected_id);
    if (record.only_old_failed) subjects.old_failed_only.Record(trace.hash, affected_id);
  });
}

void TelemetryRecorder::RecordRepairQueued(const Attribution& to) {
  Record(to, [](Cell& cell, absl::Time) { ++cell.stats.repairs.queued; });
}

void TelemetryRecorder::RecordRepairDone(const Attribution& to) {
  Record(to, [](Cell& cell, absl::Time) { ++cell.stats.repairs.done; });
}

void TelemetryRecorder::RecordBackfill(const Attribution& to, uint64_t rows_to_copy, uint64_t rows_copied) {
  if (rows_to_copy == 0 && rows_copied == 0) return;
  Record(to, [=](Cell& cell, absl::Time) {
    cell.stats.backfill.rows_to_copy += rows_to_copy;
    cell.stats.backfill.rows_copied += rows_copied;
  });
}

void TelemetryRecorder::RecordComparisonShed(const Attribution& to) {
  Record(to, [](Cell& cell, absl::Time) { ++cell.stats.dropped.comparisons_shed; });
}

domain::MismatchSample* TelemetryRecorder::NewSample(Cell& cell, absl::string_view field,
                                                     absl::string_view kind) const {
  const auto fingerprint = std::make_pair(std::string(field), std::string(kind));
  const auto kept = cell.kept.find(fingerprint);
  const bool enough = kept != cell.kept.end() && kept->second >= options_.samples_per_fingerprint;
  if (enough || options_.samples_per_fingerprint == 0 || cell.samples.size() >= domain::kMaxSamplesPerDelta) {
    ++cell.stats.dropped.samples_dropped;
    return nullptr;
  }
  ++cell.kept[fingerprint];
  domain::MismatchSample& sample = cell.samples.emplace_back();
  sample.field = fingerprint.first;
  sample.kind = fingerprint.second;
  return &sample;
}

void TelemetryRecorder::AddMismatch(Cell& cell, uint64_t salt_seed, const ComparisonRecord& record,
                                    absl::Time now) const {
  const std::string key = DigestKey(salt_seed);
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

std::vector<domain::TelemetryDelta> TelemetryRecorder::Collect() {
  std::map<std::pair<Attribution, int64_t>, domain::TelemetryDelta> deltas;
  MutexLock collecting(&collect_mutex_);
  for (Shard& shard : *shards_) {
    std::vector<Cell> cells;
    {
      MutexLock lock(&shard.mutex);
      cells.swap(shard.cells);
    }
    for (Cell& cell : cells) {
      MergeOrDie(cell.stats, collected_totals_[cell.to.migration_index]);
      domain::TelemetryDelta& delta = deltas[{cell.to, cell.bucket_seconds}];
      delta.migration = options_.migrations[cell.to.migration_index];
      delta.generation = cell.to.generation;
      delta.epoch = cell.to.epoch;
      delta.contract_revision = cell.to.contract_revision;
      delta.bucket_start = absl::FromUnixSeconds(cell.bucket_seconds);
      MergeOrDie(cell.stats, delta.stats);
      std::move(cell.samples.begin(), cell.samples.end(), std::back_inserter(delta.samples));
      if (delta.samples.size() > domain::kMaxSamplesPerDelta) {
        const size_t excess = delta.samples.size() - domain::kMaxSamplesPerDelta;
        delta.stats.dropped.samples_dropped += excess;
        collected_totals_[cell.to.migration_index].dropped.samples_dropped += excess;
        delta.samples.resize(domain::kMaxSamplesPerDelta);
      }
    }
  }
  std::vector<domain::TelemetryDelta> result;
  result.reserve(deltas.size());
  for (auto& [key, delta] : deltas) result.push_back(std::move(delta));
  return result;
}

domain::WindowStats TelemetryRecorder::Totals(uint32_t migration_index) const {
  MutexLock collecting(&collect_mutex_);
  domain::WindowStats totals = collected_totals_[migration_index];
  for (Shard& shard : *shards_) {
    MutexLock lock(&shard.mutex);
    for (const Cell& cell : shard.cells) {
      if (cell.to.migration_index == migration_index) MergeOrDie(cell.stats, totals);
    }
  }
  return totals;
}

}  // namespace lockstep
