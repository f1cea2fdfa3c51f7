#include "client/sdk/src/reporter.h"

#include <algorithm>
#include <iterator>
#include <optional>
#include <utility>

#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "core/base/check.h"
#include "core/base/error_info.h"
#include "core/base/log.h"
#include "lockstep/internal/backoff.h"

namespace lockstep::internal {
namespace {

using domain::TelemetryBatch;
using domain::TelemetryDelta;

// Half of what the server takes; the estimate is generous.
constexpr size_t kMaxBatchBytes = 512 * 1024;

// However long a server asks to wait.
constexpr absl::Duration kMostAskedToWait = absl::Minutes(1);

// Counts of 64 slots; an allowance for each, enough for a million.
constexpr size_t kSlotsBytes = 4 * domain::SlotCounts::kSlots;

size_t EstimatedBytes(const domain::SubjectTrials& trials) {
  if (trials.slots.empty()) return 0;
  // Registers are sent in whichever form is the shorter one, and each takes at least a byte.
  return kSlotsBytes + std::min(4 * trials.distinct.hit_registers(), domain::DistinctSketch::kRegisters);
}

size_t EstimatedBytes(const domain::SubjectEvents& events) {
  if (events.slots.empty()) return 0;
  return kSlotsBytes + 16 * events.affected().size();
}

size_t EstimatedBytes(const domain::SubjectStats& subjects) {
  size_t bytes = EstimatedBytes(subjects.compared) + EstimatedBytes(subjects.mismatched) +
                 EstimatedBytes(subjects.new_failed_only) + EstimatedBytes(subjects.old_failed_only);
  for (const domain::SubjectTrials& reads : subjects.reads) bytes += EstimatedBytes(reads);
  for (const domain::SubjectEvents& errors : subjects.errors) bytes += EstimatedBytes(errors);
  return bytes;
}

size_t EstimatedBytes(const TelemetryDelta& delta) {
  size_t bytes = 256 + delta.migration.size() + EstimatedBytes(delta.stats.subjects);
  for (const domain::ArmStats& arm : delta.stats.arms) bytes += arm.latency.NonZero().size() * 10;
  for (const auto& [field, counts] : delta.stats.fields()) bytes += 5 * (field.size() + 12);
  for (const domain::MismatchSample& sample : delta.samples) {
    bytes += 256 + sample.field.size() + sample.trace_id.size() + sample.instance_id.size();
  }
  return bytes;
}

// What a server that is overloaded asks for. All instances are told the same: what is added must spread them.
absl::Duration AskedToWait(const absl::Status& status) {
  const std::optional<ErrorInfo> info = GetErrorInfo(status);
  if (!info) return absl::ZeroDuration();
  const auto found = info->metadata.find("retry_after_ms");
  int64_t milliseconds = 0;
  if (found == info->metadata.end() || !absl::SimpleAtoi(found->second, &milliseconds)) {
    return absl::ZeroDuration();
  }
  return std::clamp(absl::Milliseconds(milliseconds), absl::ZeroDuration(), kMostAskedToWait);
}

uint64_t NonZeroSession(Prng& prng) { return std::max<uint64_t>(1, prng.Next()); }

// The later bucket of the two stays.
void MergeInto(TelemetryDelta from, TelemetryDelta& into) {
  LOCKSTEP_CHECK(into.stats.Merge(from.stats).ok(), "a process can't count to 2^53");
  std::move(from.samples.begin(), from.samples.end(), std::back_inserter(into.samples));
  if (into.samples.size() > domain::kMaxSamplesPerDelta) {
    into.stats.dropped.samples_dropped += into.samples.size() - domain::kMaxSamplesPerDelta;
    into.samples.resize(domain::kMaxSamplesPerDelta);
  }
}

bool SameAttribution(const TelemetryDelta& a, const TelemetryDelta& b) {
  return a.migration == b.migration && a.generation == b.generation && a.epoch == b.epoch &&
         a.contract_revision == b.contract_revision;
}

}  // namespace

uint64_t OperationsIn(const domain::WindowStats& stats) {
  uint64_t operations = stats.compared() + stats.dropped.comparisons_shed + stats.dropped.telemetry_dropped;
  for (const domain::ArmStats& arm : stats.arms) operations += arm.requests;
  return operations + stats.writes.authoritative_ok + stats.writes.authoritative_failed +
         stats.writes.mirror_attempts() + stats.repairs.queued + stats.repairs.done +
         stats.backfill.rows_to_copy + stats.backfill.rows_copied;
}

Reporter::Reporter(ReporterOptions options, uint64_t seed)
    : options_(std::move(options)), prng_(seed), session_(NonZeroSession(prng_)) {}

Reporter::Key Reporter::KeyOf(const TelemetryDelta& delta) {
  return {delta.bucket_start, delta.migration, delta.generation, delta.epoch, delta.contract_revision};
}

void Reporter::AddOne(TelemetryDelta delta) {
  const auto [it, inserted] = pending_.try_emplace(KeyOf(delta));
  if (inserted) {
    it->second = std::move(delta);
  } else {
    MergeInto(std::move(delta), it->second);
  }
}

void Reporter::Add(std::vector<TelemetryDelta> deltas) {
  for (TelemetryDelta& delta : deltas) AddOne(std::move(delta));
  while (pending_.size() > options_.max_pending_deltas) {
    if (MergeForward()) continue;
    Lose(pending_.begin()->second);
    pending_.erase(pending_.begin());
  }
}

bool Reporter::MergeForward() {
  for (auto oldest = pending_.begin(); oldest != pending_.end(); ++oldest) {
    const auto later = std::find_if(std::next(oldest), pending_.end(), [&](const auto& entry) {
      return SameAttribution(entry.second, oldest->second);
    });
    if (later == pending_.end()) continue;
    MergeInto(std::move(oldest->second), later->second);
    pending_.erase(oldest);
    return true;
  }
  return false;
}

void Reporter::Lose(const TelemetryDelta& dropped) {
  const uint64_t operations = OperationsIn(dropped.stats);
  operations_dropped_ += operations - dropped.stats.dropped.telemetry_dropped;
  TelemetryDelta& lost = lost_[dropped.migration];
  lost.migration = dropped.migration;
  lost.generation = std::max(lost.generation, dropped.generation);
  lost.epoch = std::max(lost.epoch, dropped.epoch);
  lost.contract_revision = std::max(lost.contract_revision, dropped.contract_revision);
  lost.bucket_start = std::max(lost.bucket_start, dropped.bucket_start);
  lost.stats.dropped.telemetry_dropped += operations;
  lost.stats.dropped.samples_dropped += dropped.samples.size() + dropped.stats.dropped.samples_dropped;
}

void Reporter::MakeBatch() {
  TelemetryBatch batch{.instance_id = options_.instance_id, .session = session_, .sequence = next_sequence_};
  size_t bytes = 0;
  const auto take_from = [&](auto& map) {
    while (!map.empty() && batch.deltas.size() < domain::kMaxDeltasPerBatch) {
      bytes += EstimatedBytes(map.begin()->second);
      if (!batch.deltas.empty() && bytes > kMaxBatchBytes) return;
      batch.deltas.push_back(std::move(map.begin()->second));
      map.erase(map.begin());
    }
  };
  take_from(lost_);
  take_from(pending_);
  batch_ = std::move(batch);
}

void Reporter::KeepAlive(absl::Duration now) {
  if (has_batch() || (last_sent_.has_value() && now - *last_sent_ < options_.keep_alive_interval)) return;
  MakeBatch();
}

const TelemetryBatch* Reporter::NextToSend(absl::Duration now) {
  if (awaiting_reply_ || now < not_before_ || !has_batch()) return nullptr;
  if (!batch_.has_value()) MakeBatch();
  awaiting_reply_ = true;
  last_sent_ = now;
  return &*batch_;
}

std::optional<absl::Duration> Reporter::due() const {
  if (awaiting_reply_ || !has_batch()) return std::nullopt;
  return not_before_;
}

uint64_t Reporter::operations_waiting() const {
  uint64_t operations = 0;
  for (const auto& [key, delta] : pending_) operations += OperationsIn(delta.stats);
  for (const auto& [migration, delta] : lost_) operations += OperationsIn(delta.stats);
  if (batch_.has_value()) {
    for (const TelemetryDelta& delta : batch_->deltas) operations += OperationsIn(delta.stats);
  }
  return operations;
}

void Reporter::OnReply(const absl::StatusOr<ReportReply>& reply, absl::Duration now) {
  LOCKSTEP_CHECK(awaiting_reply_, "a reply to nothing");
  awaiting_reply_ = false;
  if (reply.ok()) {
    batch_.reset();
    ++next_sequence_;
    ++acknowledged_;
    attempts_ = 0;
    not_before_ = reply->retry_after.has_value() ? now + *reply->retry_after : now;
    samples_per_fingerprint_ = reply->samples_per_fingerprint;
    return;
  }
  switch (reply.status().code()) {
    case absl::StatusCode::kInvalidArgument:
    case absl::StatusCode::kNotFound:
      Bisect(reply.status());
      not_before_ = now;
      return;
    case absl::StatusCode::kOutOfRange:
      // The server does not know what it acknowledged before: it was restored from a backup, or forgot this
      // instance. It has not counted the batch, so the batch opens a new session.
      Log(LogLevel::kWarning, "telemetry: the server lost the session; starting a new one",
          {{"error", reply.status().message()}});
      session_ = NonZeroSession(prng_);
      next_sequence_ = 1;
      batch_->session = session_;
      batch_->sequence = next_sequence_;
      break;
    default:  // anything else may pass
      break;
  }
  const absl::Duration asked = AskedToWait(reply.status());
  // No room for what it could take: not the moment for what can be left out.
  if (asked > absl::ZeroDuration()) samples_per_fingerprint_ = 0;
  not_before_ = now + asked + FullJitter(options_.backoff_initial, options_.backoff_max, attempts_, prng_);
  ++attempts_;
}

void Reporter::Bisect(const absl::Status& why) {
  std::vector<TelemetryDelta>& deltas = batch_->deltas;
  if (deltas.size() > 1) {
    const size_t kept = deltas.size() / 2;
    for (size_t i = kept; i < deltas.size(); ++i) AddOne(std::move(deltas[i]));
    deltas.resize(kept);
    return;
  }
  if (deltas.empty()) {
    Log(LogLevel::kWarning, "telemetry: the server refuses an empty batch", {{"error", why.message()}});
    batch_.reset();
    return;
  }
  const TelemetryDelta refused = std::move(deltas.front());
  const uint64_t operations = OperationsIn(refused.stats);
  Log(LogLevel::kWarning, "telemetry: the server refuses a delta for good; it is dropped",
      {{"migration", refused.migration}, {"operations", absl::StrCat(operations)}, {"error", why.message()}});
  // The drop is reported, unless there is no migration to report it to or that very report was refused.
  const bool was_report_of_drops = operations == refused.stats.dropped.telemetry_dropped;
  if (absl::IsNotFound(why) || was_report_of_drops) {
    operations_dropped_ += operations - refused.stats.dropped.telemetry_dropped;
  } else {
    Lose(refused);
  }
  batch_.reset();
}

}  // namespace lockstep::internal
