#include "server/engine/telemetry.h"

#include <algorithm>
#include <chrono>
#include <utility>

#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "core/base/error_info.h"
#include "core/base/status_macros.h"
#include "server/engine/telemetry_keys.h"
#include "server/engine/telemetry_memory.h"

// Recovery, the queue and everything for readers. How a batch is counted is in telemetry_flush.cc.
namespace lockstep::engine {
namespace {

constexpr size_t kRemovalsPerCommit = 10000;
// The next commit waits for more batches for at most this part of what the last one took.
constexpr int64_t kPatienceDivisor = 4;
constexpr absl::Duration kMaxPatience = absl::Milliseconds(2);

absl::Status Stopping() { return absl::UnavailableError("the server is stopping: send the batch again"); }

}  // namespace

Telemetry::Telemetry(store::Store* store, const store::RecordCodec* codec, const Clock* clock,
                     const Registry* registry, Options options)
    : store_(store), codec_(codec), clock_(clock), registry_(registry), options_(options) {}

Telemetry::~Telemetry() { Stop(); }

absl::Status Telemetry::Recover() {
  MutexLock lock(&mutex_);
  LOCKSTEP_RETURN_IF_ERROR(RecoverCursors());
  closed_before_ = BucketFloor(clock_->Now() - kBucketGrace);
  for (const GateSubject& subject : registry_->GateSubjects()) {
    const std::string& name = subject.migration->name;
    const uint64_t newest = subject.migration->published.generation;
    for (uint64_t generation = 1; generation <= newest; ++generation) {
      LOCKSTEP_RETURN_IF_ERROR(RecoverGeneration({name, generation}));
    }
  }
  return absl::OkStatus();
}

absl::Status Telemetry::RecoverCursors() {
  absl::Status damage;
  LOCKSTEP_RETURN_IF_ERROR(store_->Scan(
      store::Table::kTelemetrySequences, "", "", store::kNoLimit,
      [&](absl::string_view key, absl::string_view value) {
        mutex_.AssertHeld();
        const std::optional<SessionKey> session = ParseSessionKey(key);
        const absl::StatusOr<domain::TelemetryCursor> cursor = codec_->DecodeTelemetryCursor(value);
        if (!session || !cursor.ok()) {
          damage =
              cursor.ok() ? absl::DataLossError("the key of a telemetry cursor is damaged") : cursor.status();
          return false;
        }
        cursors_[*session] = *cursor;
        return true;
      }));
  return damage;
}

absl::Status Telemetry::RecoverGeneration(const GenerationKey& key) {
  const auto& [name, generation] = key;
  LOCKSTEP_ASSIGN_OR_RETURN(
      const std::optional<std::string> total,
      store_->Get(store::Table::kWindows, store::WindowKey(name, generation, kTotalBucketSeconds)));
  if (!total) return absl::OkStatus();  // nothing was reported
  GenerationState& state = generations_[key];
  LOCKSTEP_ASSIGN_OR_RETURN(const domain::WindowRecord record, codec_->DecodeWindow(*total));
  state.total = record.stats;
  LOCKSTEP_RETURN_IF_ERROR(
      ScanBuckets(name, generation, closed_before_, absl::InfiniteFuture(),
                  [&](const domain::WindowRecord& open) { state.open[open.bucket_start] = open; }));
  const store::KeyRange range = store::SamplesOf(name, generation);
  absl::Status damage;
  LOCKSTEP_RETURN_IF_ERROR(store_->Scan(store::Table::kSamples, range.start, range.end, store::kNoLimit,
                                        [&](absl::string_view sample_key, absl::string_view) {
                                          const auto parts = store::ParseSampleKey(sample_key);
                                          if (!parts) {
                                            damage = absl::DataLossError(
                                                "the key of a mismatch sample is damaged");
                                            return false;
                                          }
                                          uint64_t& next = state.next_sample[parts->fingerprint];
                                          next = std::max(next, parts->sequence + 1);
                                          return true;
                                        }));
  return damage;
}

void Telemetry::Start() {
  MutexLock lock(&mutex_);
  if (running_ || stopping_) return;
  running_ = true;
  flusher_ = std::thread([this] { FlushLoop(); });
}

void Telemetry::Stop() {
  {
    MutexLock lock(&mutex_);
    stopping_ = true;
    wake_.SignalAll();
  }
  if (flusher_.joinable()) flusher_.join();
}

void Telemetry::Report(domain::TelemetryBatch batch, Done done) {
  const size_t bytes = MemoryOf(batch);
  absl::Status refused;
  {
    MutexLock lock(&mutex_);
    if (!health_.ok()) {
      refused = health_;
    } else if (stopping_ || !running_) {
      refused = Stopping();
    } else if (!HasRoomFor(bytes)) {
      ++counters_.refused_batches;
      refused = WithErrorInfo(
          absl::ResourceExhaustedError(absl::StrCat(queue_.size(),
                                                    " telemetry batches are waiting for the disk: "
                                                    "send the batch again a little later")),
          {.reason = "QUEUE_FULL",
           .metadata = {{"retry_after_ms", absl::StrCat(absl::ToInt64Milliseconds(kRetryAfter))}},
           .field_violations = {},
           .precondition_violations = {}});
    } else {
      queue_.push_back({std::move(batch), std::move(done), bytes});
      queued_bytes_ += bytes;
      if (queue_.size() >= wanted_) wake_.Signal();
    }
  }
  if (!refused.ok()) done(refused);
}

bool Telemetry::HasRoomFor(size_t bytes) const {
  if (queue_.empty()) return options_.max_queued_batches > 0;
  return queue_.size() < options_.max_queued_batches && queued_bytes_ + bytes <= options_.max_queued_bytes;
}

// A commit takes milliseconds, whatever it holds, and whoever was answered by one tends to send the next
// batch at once. So the next commit waits for as many batches as were there during the last one, though not
// for long: else those that have just been answered and those that waited meanwhile would take turns for
// ever, in commits of half the size.
void Telemetry::FlushLoop() {
  size_t expected = 1;
  absl::Duration patience;
  while (true) {
    std::vector<Queued> batches;
    {
      MutexLock lock(&mutex_);
      while (queue_.empty() && !stopping_) wake_.Wait(&mutex_);
      if (queue_.empty()) return;
      if (patience > absl::ZeroDuration()) AwaitQueued(expected, patience);
      batches.swap(queue_);
      queued_bytes_ = 0;
    }
    const size_t taken = batches.size();
    const absl::Duration before = clock_->SinceBoot();
    Flush(std::move(batches));
    patience = std::min((clock_->SinceBoot() - before) / kPatienceDivisor, kMaxPatience);
    MutexLock lock(&mutex_);
    expected = taken + queue_.size();
  }
}

void Telemetry::AwaitQueued(size_t count, absl::Duration patience) {
  wanted_ = count;
  const auto deadline = std::chrono::steady_clock::now() + absl::ToChronoNanoseconds(patience);
  while (queue_.size() < count && !stopping_) {
    const auto left = deadline - std::chrono::steady_clock::now();
    if (left <= left.zero() || !wake_.WaitFor(&mutex_, left)) break;
  }
  wanted_ = 1;
}

absl::Status Telemetry::health() const {
  MutexLock lock(&mutex_);
  return health_;
}

domain::WindowStats Telemetry::Totals(absl::string_view migration, uint64_t generation) const {
  MutexLock lock(&mutex_);
  const auto found = generations_.find(GenerationKey(migration, generation));
  return found == generations_.end() ? domain::WindowStats() : found->second.total;
}

domain::RepairStats Telemetry::Repairs(absl::string_view migration, uint64_t generation) const {
  MutexLock lock(&mutex_);
  const auto found = generations_.find(GenerationKey(migration, generation));
  return found == generations_.end() ? domain::RepairStats() : found->second.total.repairs;
}

domain::WindowStats Telemetry::LifetimeTotals(absl::string_view migration) const {
  domain::WindowStats sum;
  MutexLock lock(&mutex_);
  for (auto at = generations_.lower_bound(GenerationKey(migration, 0));
       at != generations_.end() && at->first.first == migration; ++at) {
    // A sum beyond the range of a counter stays at what it can hold; the totals of each generation are exact.
    sum.Merge(at->second.total).IgnoreError();
  }
  return sum;
}

absl::Time Telemetry::CloseBuckets(absl::Time now) {
  MutexLock lock(&mutex_);
  absl::Time closed = BucketFloor(now - kBucketGrace);
  if (flushing_from_) closed = std::min(closed, *flushing_from_);
  closed_before_ = std::max(closed_before_, closed);
  for (auto& [key, state] : generations_) {
    state.open.erase(state.open.begin(), state.open.lower_bound(closed_before_));
  }
  return closed_before_;
}

absl::Status Telemetry::ScanBuckets(absl::string_view migration, uint64_t generation, absl::Time from,
                                    absl::Time to,
                                    absl::FunctionRef<void(const domain::WindowRecord&)> visit) const {
  const auto seconds = [](absl::Time time) {
    return static_cast<uint64_t>(std::max<int64_t>(kTotalBucketSeconds + 1, absl::ToUnixSeconds(time)));
  };
  const store::KeyRange range = store::WindowsBetween(migration, generation, seconds(from), seconds(to));
  absl::Status damage;
  LOCKSTEP_RETURN_IF_ERROR(store_->Scan(store::Table::kWindows, range.start, range.end, store::kNoLimit,
                                        [&](absl::string_view, absl::string_view value) {
                                          const absl::StatusOr<domain::WindowRecord> record =
                                              codec_->DecodeWindow(value);
                                          if (!record.ok()) {
                                            damage = record.status();
                                            return false;
                                          }
                                          visit(*record);
                                          return true;
                                        }));
  return damage;
}

absl::StatusOr<OutstandingWork> Telemetry::OutstandingBefore(absl::string_view migration, uint64_t generation,
                                                             absl::Time closed_before) const {
  OutstandingWork work;
  // A bucket's counts are part of the total, so nothing falls below 0.
  const auto take_away = [&](const domain::WindowRecord& later) {
    work.repairs.queued -= later.stats.repairs.queued;
    work.repairs.done -= later.stats.repairs.done;
    work.backfill.rows_to_copy -= later.stats.backfill.rows_to_copy;
    work.backfill.rows_copied -= later.stats.backfill.rows_copied;
  };
  absl::Time all_closed_before;
  {
    MutexLock lock(&mutex_);
    all_closed_before = closed_before_;
    const auto found = generations_.find(GenerationKey(migration, generation));
    if (found == generations_.end()) return work;
    work = {found->second.total.repairs, found->second.total.backfill};
    for (const auto& [start, open] : found->second.open) {
      if (start >= closed_before) take_away(open);
    }
  }
  if (closed_before < all_closed_before) {
    LOCKSTEP_RETURN_IF_ERROR(ScanBuckets(migration, generation, closed_before, all_closed_before, take_away));
  }
  return work;
}

absl::Time Telemetry::LastReport(const std::string& instance_id) const {
  absl::Time last = absl::InfinitePast();
  MutexLock lock(&mutex_);
  for (auto at = cursors_.lower_bound(SessionKey(instance_id, 0));
       at != cursors_.end() && at->first.first == instance_id; ++at) {
    last = std::max(last, at->second.last_seen);
  }
  return last;
}

absl::Status Telemetry::ReadBuckets(absl::string_view migration, uint64_t generation,
                                    uint64_t contract_revision, absl::Time from, absl::Time to,
                                    absl::FunctionRef<void(const domain::WindowRecord&)> visit) const {
  return ScanBuckets(migration, generation, from, to, [&](const domain::WindowRecord& record) {
    if (record.contract_revision == contract_revision) visit(record);
  });
}

absl::StatusOr<std::vector<domain::MismatchSample>> Telemetry::ListSamples(absl::string_view migration,
                                                                           size_t offset,
                                                                           size_t limit) const {
  const std::optional<TelemetryTarget> target = registry_->FindTelemetryTarget(migration);
  if (!target) return registry_->Get(migration).status();
  std::vector<domain::MismatchSample> samples;
  const store::KeyRange range = store::SamplesOf(migration, target->generation);
  absl::Status damage;
  LOCKSTEP_RETURN_IF_ERROR(store_->Scan(store::Table::kSamples, range.start, range.end, store::kNoLimit,
                                        [&](absl::string_view, absl::string_view value) {
                                          absl::StatusOr<domain::MismatchSample> sample =
                                              codec_->DecodeMismatchSample(value);
                                          if (!sample.ok()) {
                                            damage = sample.status();
                                            return false;
                                          }
                                          samples.push_back(*std::move(sample));
                                          return true;
                                        }));
  LOCKSTEP_RETURN_IF_ERROR(damage);
  std::stable_sort(samples.begin(), samples.end(),
                   [](const auto& a, const auto& b) { return a.time > b.time; });
  samples.erase(samples.begin(), samples.begin() + static_cast<ptrdiff_t>(std::min(offset, samples.size())));
  if (samples.size() > limit) samples.resize(limit);
  return samples;
}

absl::Status Telemetry::Forget(const std::string& migration) {
  {
    MutexLock lock(&mutex_);
    for (auto at = generations_.lower_bound(GenerationKey(migration, 0));
         at != generations_.end() && at->first.first == migration;) {
      at = generations_.erase(at);
    }
  }
  const std::pair<store::Table, store::KeyRange> ranges[] = {
      {store::Table::kWindows, store::WindowsOf(migration)},
      {store::Table::kSamples, store::SamplesOf(migration)}};
  for (const auto& [table, range] : ranges) {
    while (true) {
      store::WriteBatch batch;
      LOCKSTEP_RETURN_IF_ERROR(store_->Scan(table, range.start, range.end, kRemovalsPerCommit,
                                            [&, table = table](absl::string_view key, absl::string_view) {
                                              batch.Delete(table, std::string(key));
                                              return true;
                                            }));
      if (batch.empty()) break;
      LOCKSTEP_RETURN_IF_ERROR(store_->Commit(std::move(batch), std::nullopt).status());
    }
  }
  return absl::OkStatus();
}

TelemetryCounters Telemetry::counters() const {
  MutexLock lock(&mutex_);
  TelemetryCounters counters = counters_;
  counters.queued_batches = queue_.size();
  return counters;
}

}  // namespace lockstep::engine
