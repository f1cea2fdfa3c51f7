// How the telemetry aggregator counts a batch: staged beside the sums, committed, then merged. See
// telemetry.h.
#include <algorithm>
#include <utility>

#include "absl/strings/str_cat.h"
#include "core/base/error_info.h"
#include "core/base/status_macros.h"
#include "server/engine/telemetry.h"
#include "server/engine/telemetry_keys.h"

namespace lockstep::engine {
namespace {

constexpr size_t kBatchesPerCommit = 256;
constexpr absl::Duration kForgetEvery = absl::Hours(1);
constexpr size_t kForgottenSessionsPerCommit = 1000;

absl::Status Bad(size_t index, absl::string_view field, absl::string_view why) {
  return InvalidArgumentWithViolations({{absl::StrCat("deltas[", index, "].", field), std::string(why)}});
}

absl::Status UnknownMigration(size_t index, const std::string& name) {
  return WithErrorInfo(
      absl::NotFoundError(absl::StrCat("deltas[", index, "]: there is no migration ", name,
                                       "; nothing of the batch was counted: send the rest without it")),
      {.reason = "MIGRATION_NOT_FOUND",
       .metadata = {{"migration", name}},
       .field_violations = {},
       .precondition_violations = {}});
}

absl::Status Gap(uint64_t expected, uint64_t got) {
  return WithErrorInfo(absl::OutOfRangeError(absl::StrCat(
                           "batch ", got, " leaves a gap: the next one of this session is ", expected)),
                       {.reason = "SEQUENCE_GAP",
                        .metadata = {{"expected_sequence", absl::StrCat(expected)}},
                        .field_violations = {},
                        .precondition_violations = {}});
}

absl::Status CheckDelta(size_t index, const domain::TelemetryDelta& delta, const TelemetryTarget& target,
                        absl::Time now) {
  if (absl::Status status = delta.stats.Validate(); !status.ok())
    return Bad(index, "stats", status.message());
  if (delta.samples.size() > domain::kMaxSamplesPerDelta) {
    return Bad(index, "samples", absl::StrCat("at most ", domain::kMaxSamplesPerDelta, " are allowed"));
  }
  if (delta.generation > target.generation) {
    return Bad(index, "generation", absl::StrCat("the newest one is ", target.generation));
  }
  if (delta.generation == target.generation && delta.contract_revision > target.contract_revision) {
    return Bad(index, "contract_revision", absl::StrCat("the newest one is ", target.contract_revision));
  }
  if (BucketFloor(delta.bucket_start) != delta.bucket_start) {
    return Bad(index, "bucket_start", "must be a multiple of 5 s since the Unix epoch");
  }
  if (delta.bucket_start > now + kMaxFuture) {
    return Bad(index, "bucket_start", "is more than an hour in the future: check the instance's clock");
  }
  return absl::OkStatus();
}

absl::Status CheckBatch(const domain::TelemetryBatch& batch) {
  if (batch.instance_id.empty()) return InvalidArgumentWithViolations({{"instance_id", "must not be empty"}});
  if (batch.session == 0) return InvalidArgumentWithViolations({{"session", "must not be 0"}});
  if (batch.sequence == 0) return InvalidArgumentWithViolations({{"sequence", "sequences count from 1"}});
  if (batch.deltas.size() > domain::kMaxDeltasPerBatch) {
    return InvalidArgumentWithViolations(
        {{"deltas", absl::StrCat(batch.deltas.size(), " deltas; at most ", domain::kMaxDeltasPerBatch,
                                 " are allowed: split the batch")}});
  }
  return absl::OkStatus();
}

}  // namespace

struct Telemetry::StagedGeneration {
  domain::WindowStats total;
  std::map<absl::Time, domain::WindowRecord> buckets;
  std::map<uint64_t, uint64_t> next_sample;
  std::vector<std::pair<std::string, std::optional<std::string>>> sample_rows;  // nullopt deletes
};

// What one commit will change: the new values of what it touches. The sums in memory stay as they are until
// the commit has succeeded.
struct Telemetry::Staged {
  std::map<SessionKey, domain::TelemetryCursor> cursors;
  std::vector<SessionKey> forgotten;
  std::map<GenerationKey, StagedGeneration> generations;
  TelemetryCounters counters;  // what they rise by
  // A batch failed after some of it had been added: stage everything else again.
  bool torn = false;
};

void Telemetry::Flush(std::vector<Queued> batches) {
  for (size_t begin = 0; begin < batches.size(); begin += kBatchesPerCommit) {
    const size_t count = std::min(kBatchesPerCommit, batches.size() - begin);
    const absl::Span<const Queued> chunk = absl::MakeConstSpan(batches).subspan(begin, count);
    Results results = CommitBatches(chunk);
    if (IsCrowded()) {
      for (absl::StatusOr<TelemetryReceipt>& result : results) {
        if (!result.ok()) continue;
        result->retry_after = kRetryAfter;
        result->samples_per_fingerprint = 0;
      }
    }
    for (size_t i = 0; i < count; ++i) chunk[i].done(results[i]);
  }
}

bool Telemetry::IsCrowded() const {
  MutexLock lock(&mutex_);
  return 2 * queue_.size() > options_.max_queued_batches || 2 * queued_bytes_ > options_.max_queued_bytes;
}

Telemetry::Results Telemetry::CommitBatches(absl::Span<const Queued> batches) {
  const Targets targets = FindTargets(batches);
  const absl::Time now = clock_->Now();
  Staged staged;
  Results results;
  {
    MutexLock lock(&mutex_);
    if (!health_.ok()) return Results(batches.size(), health_);
    const absl::Time floor = std::max(closed_before_, BucketFloor(now - kBucketGrace));
    flushing_from_ = floor;
    results = StageAll(batches, targets, now, floor, &staged);
  }
  absl::Status status;
  if (!staged.cursors.empty()) status = store_->Commit(RowsOf(staged), std::nullopt).status();

  MutexLock lock(&mutex_);
  if (absl::IsUnknown(status)) {
    // flushing_from_ stays: what may have been added to its buckets is not known.
    health_ = WithErrorInfo(
        absl::UnavailableError(absl::StrCat("the outcome of a telemetry commit is unknown (",
                                            status.message(),
                                            "): the server has to be restarted, which reads what is there")),
        {.reason = "STORE_FAILED", .metadata = {}, .field_violations = {}, .precondition_violations = {}});
    status = health_;
  } else {
    flushing_from_.reset();
  }
  if (status.ok()) {
    Merge(std::move(staged), now);
    return results;
  }
  // Repeats too: what they repeat may be in this very commit.
  for (absl::StatusOr<TelemetryReceipt>& result : results) {
    if (result.ok()) result = status;
  }
  return results;
}

Telemetry::Targets Telemetry::FindTargets(absl::Span<const Queued> batches) const {
  Targets targets;
  for (const Queued& queued : batches) {
    for (const domain::TelemetryDelta& delta : queued.batch.deltas) {
      if (targets.count(delta.migration) > 0) continue;
      if (const auto target = registry_->FindTelemetryTarget(delta.migration))
        targets[delta.migration] = *target;
    }
  }
  return targets;
}

Telemetry::Results Telemetry::StageAll(absl::Span<const Queued> batches, const Targets& targets,
                                       absl::Time now, absl::Time floor, Staged* staged) const {
  std::map<size_t, absl::Status> refused;  // those that tore an earlier attempt
  while (true) {
    Results results;
    *staged = Staged();
    for (size_t i = 0; i < batches.size() && !staged->torn; ++i) {
      if (const auto found = refused.find(i); found != refused.end()) {
        results.push_back(found->second);
        continue;
      }
      results.push_back(Stage(batches[i].batch, targets, now, floor, staged));
      if (staged->torn) refused[i] = results.back().status();
    }
    if (staged->torn) continue;
    StageForgottenSessions(now, staged);
    return results;
  }
}

Telemetry::Placement Telemetry::Place(const domain::TelemetryDelta& delta, const TelemetryTarget& target,
                                      absl::Time now, absl::Time floor) {
  Placement placement;
  placement.stale = delta.generation < target.generation;
  placement.late = delta.bucket_start < floor;
  placement.bucket = std::clamp(delta.bucket_start, floor, std::max(floor, BucketFloor(now)));
  // Late counts of before the evidence began would otherwise turn up in it.
  const bool too_old = placement.late && target.evidence_begin != absl::InfiniteFuture() &&
                       delta.bucket_start < target.evidence_begin;
  placement.evidence = delta.contract_revision == target.contract_revision &&
                       delta.epoch >= target.first_evidence_epoch && !too_old;
  return placement;
}

absl::StatusOr<TelemetryReceipt> Telemetry::Stage(const domain::TelemetryBatch& batch, const Targets& targets,
                                                  absl::Time now, absl::Time floor, Staged* staged) const {
  LOCKSTEP_RETURN_IF_ERROR(CheckBatch(batch));
  const SessionKey session(batch.instance_id, batch.session);
  uint64_t counted = 0;
  if (const auto at = staged->cursors.find(session); at != staged->cursors.end()) {
    counted = at->second.sequence;
  } else if (const auto present = cursors_.find(session); present != cursors_.end()) {
    counted = present->second.sequence;
  }
  if (batch.sequence <= counted) {
    ++staged->counters.duplicate_batches;
    return TelemetryReceipt{.duplicate = true};
  }
  if (batch.sequence != counted + 1) return Gap(counted + 1, batch.sequence);
  for (size_t i = 0; i < batch.deltas.size(); ++i) {
    const auto target = targets.find(batch.deltas[i].migration);
    if (target == targets.end()) return UnknownMigration(i, batch.deltas[i].migration);
    LOCKSTEP_RETURN_IF_ERROR(CheckDelta(i, batch.deltas[i], target->second, now));
  }
  TelemetryReceipt receipt;
  for (const domain::TelemetryDelta& delta : batch.deltas) {
    const Placement placement = Place(delta, targets.at(delta.migration), now, floor);
    if (placement.stale) {
      ++receipt.stale_deltas;
      continue;
    }
    const GenerationKey key(delta.migration, delta.generation);
    StagedGeneration* generation = FindStaged(key, staged);
    absl::Status status = generation->total.Merge(delta.stats);
    if (status.ok() && placement.evidence) status = AddToBucket(key, delta, placement.bucket, generation);
    if (!status.ok()) {
      staged->torn = true;
      return status;
    }
    StageSamples(key, batch, delta, staged, generation);
    staged->counters.late_deltas += placement.late ? 1 : 0;
    staged->counters.void_deltas += placement.evidence ? 0 : 1;
  }
  staged->cursors[session] = {batch.sequence, now};
  staged->counters.stale_deltas += receipt.stale_deltas;
  ++staged->counters.batches;
  return receipt;
}

Telemetry::StagedGeneration* Telemetry::FindStaged(const GenerationKey& key, Staged* staged) const {
  const auto [at, is_new] = staged->generations.try_emplace(key);
  const auto present = generations_.find(key);
  if (is_new && present != generations_.end()) {
    at->second.total = present->second.total;
    at->second.next_sample = present->second.next_sample;
  }
  return &at->second;
}

absl::Status Telemetry::AddToBucket(const GenerationKey& key, const domain::TelemetryDelta& delta,
                                    absl::Time bucket, StagedGeneration* generation) const {
  const auto present = generations_.find(key);
  while (true) {
    const auto [at, is_new] = generation->buckets.try_emplace(bucket);
    domain::WindowRecord& record = at->second;
    if (is_new) {
      record.migration = delta.migration;
      record.generation = delta.generation;
      record.contract_revision = delta.contract_revision;
      record.bucket_start = bucket;
      if (present != generations_.end()) {
        const auto open = present->second.open.find(bucket);
        if (open != present->second.open.end()) record = open->second;
      }
    }
    if (record.contract_revision == delta.contract_revision) return record.stats.Merge(delta.stats);
    // The contract changed within this bucket, which belongs to the former one.
    bucket += domain::kTelemetryBucket;
  }
}

void Telemetry::StageSamples(const GenerationKey& key, const domain::TelemetryBatch& batch,
                             const domain::TelemetryDelta& delta, Staged* staged,
                             StagedGeneration* generation) const {
  for (domain::MismatchSample sample : delta.samples) {
    const uint64_t fingerprint = Fingerprint(sample.field, sample.kind);
    if (generation->next_sample.size() >= kFingerprintsPerGeneration &&
        generation->next_sample.count(fingerprint) == 0) {
      ++staged->counters.samples_dropped;
      continue;
    }
    sample.instance_id = batch.instance_id;
    sample.epoch = delta.epoch;
    uint64_t& next = generation->next_sample.try_emplace(fingerprint, 1).first->second;
    generation->sample_rows.emplace_back(store::SampleKey(key.first, key.second, fingerprint, next),
                                         codec_->Encode(sample));
    if (next > kSamplesPerFingerprint) {
      generation->sample_rows.emplace_back(
          store::SampleKey(key.first, key.second, fingerprint, next - kSamplesPerFingerprint), std::nullopt);
    }
    ++next;
    ++staged->counters.samples_stored;
  }
}

void Telemetry::StageForgottenSessions(absl::Time now, Staged* staged) const {
  if (now < next_forgetting_ || staged->cursors.empty()) return;
  for (const auto& [session, cursor] : cursors_) {
    if (staged->forgotten.size() >= kForgottenSessionsPerCommit) break;
    if (cursor.last_seen + kSessionRetention < now && staged->cursors.count(session) == 0) {
      staged->forgotten.push_back(session);
    }
  }
}

store::WriteBatch Telemetry::RowsOf(const Staged& staged) const {
  store::WriteBatch batch;
  for (const auto& [session, cursor] : staged.cursors) {
    batch.Put(store::Table::kTelemetrySequences, SessionRowKey(session.first, session.second),
              codec_->Encode(cursor));
  }
  for (const SessionKey& session : staged.forgotten) {
    batch.Delete(store::Table::kTelemetrySequences, SessionRowKey(session.first, session.second));
  }
  for (const auto& [key, generation] : staged.generations) {
    const auto put_window = [&, &name = key.first, number = key.second](const domain::WindowRecord& record) {
      const auto seconds = static_cast<uint64_t>(absl::ToUnixSeconds(record.bucket_start));
      batch.Put(store::Table::kWindows, store::WindowKey(name, number, seconds), codec_->Encode(record));
    };
    domain::WindowRecord total;
    total.migration = key.first;
    total.generation = key.second;
    total.bucket_start = absl::FromUnixSeconds(kTotalBucketSeconds);
    total.stats = generation.total;
    put_window(total);
    for (const auto& [start, record] : generation.buckets) put_window(record);
    for (const auto& [row_key, bytes] : generation.sample_rows) {
      if (bytes) {
        batch.Put(store::Table::kSamples, row_key, *bytes);
      } else {
        batch.Delete(store::Table::kSamples, row_key);
      }
    }
  }
  return batch;
}

void Telemetry::Merge(Staged staged, absl::Time now) {
  for (auto& [session, cursor] : staged.cursors) cursors_[session] = cursor;
  for (const SessionKey& session : staged.forgotten) cursors_.erase(session);
  if (now >= next_forgetting_) next_forgetting_ = now + kForgetEvery;
  for (auto& [key, generation] : staged.generations) {
    GenerationState& state = generations_[key];
    state.total = std::move(generation.total);
    state.next_sample = std::move(generation.next_sample);
    for (auto& [start, record] : generation.buckets) state.open[start] = std::move(record);
  }
  counters_.batches += staged.counters.batches;
  counters_.duplicate_batches += staged.counters.duplicate_batches;
  counters_.stale_deltas += staged.counters.stale_deltas;
  counters_.late_deltas += staged.counters.late_deltas;
  counters_.void_deltas += staged.counters.void_deltas;
  counters_.samples_stored += staged.counters.samples_stored;
  counters_.samples_dropped += staged.counters.samples_dropped;
}

}  // namespace lockstep::engine
