#include "lockstep/internal/comparison_runner.h"

#include <utility>
#include <vector>

#include "lockstep/internal/write_plan.h"

namespace lockstep::internal {

using domain::ComparisonOutcome;
using domain::Side;

ComparisonTask::~ComparisonTask() { runner_->in_flight_.fetch_sub(1, std::memory_order_relaxed); }

namespace {

struct Answer {
  SideView view = std::optional<RecordView>();
  bool timed_out = false;

  bool failed() const { return timed_out || !view.ok(); }
  const RecordView* record() const { return view->has_value() ? &**view : nullptr; }
};

// `read` gets its deadline. A late answer counts as none: that bounds what a sick side may cost, whether its
// code honours the deadline or not.
template <typename ReadSide>
Answer InTime(absl::Duration timeout, const Clock& clock, ReadSide&& read) {
  // Of a comparison of small records, readings of the exact clock would be a good part.
  const bool coarse = timeout >= 10 * Clock::kCoarseness;
  const auto nanoseconds = [&] { return coarse ? clock.CoarseNanoseconds() : clock.NanosecondsSinceBoot(); };
  const int64_t start = nanoseconds();
  Answer answer{.view = read((coarse ? clock.CoarseNow() : clock.Now()) + timeout)};
  const int64_t took = nanoseconds() - start;
  answer.timed_out = took > absl::ToInt64Nanoseconds(timeout) ||
                     (!answer.view.ok() && absl::IsDeadlineExceeded(answer.view.status()));
  return answer;
}

Answer ReadTimed(const ComparisonTask& task, Side side, absl::Duration timeout, const Clock& clock) {
  return InTime(timeout, clock,
                [&](absl::Time deadline) { return task.Read(side, deadline, /*convert=*/true); });
}

// Infinite for a read that did not end in time, nothing for one that failed.
std::optional<absl::Duration> Time(const ComparisonTask& task, Side side, absl::Duration timeout,
                                   const Clock& clock) {
  const absl::Duration start = clock.SinceBoot();
  const absl::Status status = task.Read(side, clock.Now() + timeout, /*convert=*/false).status();
  const absl::Duration took = clock.SinceBoot() - start;
  if (took > timeout || absl::IsDeadlineExceeded(status)) return absl::InfiniteDuration();
  if (!status.ok()) return std::nullopt;
  return took;
}

Side AuthoritativeSide(const ComparisonTask& task) {
  const domain::WriteMode mode = task.route.decision().write_mode;
  return mode == domain::WriteMode::kNewThenOld || mode == domain::WriteMode::kNewOnly ? Side::kNew
                                                                                       : Side::kOld;
}

// Of the answers of the old and the new side.
template <typename Verdict>
Verdict Judge(const Answer& from_old, const Answer& from_new, const domain::Contract& contract) {
  Verdict verdict;
  if (from_old.failed() && from_new.failed()) return verdict;
  verdict.only_old_failed = from_old.failed();
  verdict.only_new_failed = from_new.failed();
  if (from_old.timed_out || from_new.timed_out) {
    verdict.outcome = ComparisonOutcome::kTimeout;
  } else if (from_old.failed()) {
    verdict.outcome = ComparisonOutcome::kErrorInOld;
  } else if (from_new.failed()) {
    verdict.outcome = ComparisonOutcome::kErrorInNew;
  } else {
    Comparison comparison = CompareRecords(from_old.record(), from_new.record(), contract);
    verdict.outcome = comparison.outcome;
    verdict.differences = std::move(comparison.differences);
  }
  return verdict;
}

}  // namespace

ComparisonRunner::ComparisonRunner(Client* client, const MigratorOptions& options)
    : client_(client), options_(options), prng_(client->NextSeed()) {}

bool ComparisonRunner::Admit() {
  if (!client_->accepts_comparisons()) return false;
  int taken = in_flight_.load(std::memory_order_relaxed);
  while (taken < options_.max_comparisons_in_flight) {
    if (in_flight_.compare_exchange_weak(taken, taken + 1, std::memory_order_relaxed)) return true;
  }
  return false;
}

void ComparisonRunner::Start(TaskPtr task) {
  client_->executor().Submit(absl::ZeroDuration(),
                             [task = std::move(task)] { task->runner_->FirstPass(task); });
}

void ComparisonRunner::FirstPass(const TaskPtr& task) {
  bool equal = false;
  const Answer shadow = InTime(options_.comparison_deadline, client_->clock(),
                               [&](absl::Time deadline) { return task->ReadOther(deadline, &equal); });
  if (equal && !shadow.timed_out) return Conclude(task, Verdict{.outcome = ComparisonOutcome::kMatch});
  const Answer served{.view = task->Served()};
  const bool old_served = task->served_side == Side::kOld;
  const Answer& from_old = old_served ? served : shadow;
  const Answer& from_new = old_served ? shadow : served;
  Verdict verdict = Judge<Verdict>(from_old, from_new, task->route.contract());
  if (verdict.is_mismatch()) {
    task->authoritative_ = *(AuthoritativeSide(*task) == Side::kOld ? from_old : from_new).view;
  }
  Conclude(task, std::move(verdict));
}

void ComparisonRunner::SettlePass(const TaskPtr& task) {
  ++task->settle_passes_;
  // The mirror first: if it has caught up with the authoritative side in between, that is no mismatch.
  const Side authoritative_side = AuthoritativeSide(*task);
  const Answer mirror =
      ReadTimed(*task, OtherSide(authoritative_side), options_.comparison_deadline, client_->clock());
  const Answer authoritative =
      ReadTimed(*task, authoritative_side, options_.comparison_deadline, client_->clock());
  const bool old_is_authoritative = authoritative_side == Side::kOld;
  Verdict verdict = Judge<Verdict>(old_is_authoritative ? authoritative : mirror,
                                   old_is_authoritative ? mirror : authoritative, task->route.contract());
  if (verdict.is_mismatch()) {
    const bool changed = *authoritative.view != task->authoritative_;
    task->authoritative_ = *authoritative.view;
    // Somebody is writing the record: the pair that was read last is not a pair.
    const bool is_last = task->settle_passes_ == options_.settle_delays.size();
    if (changed && is_last) verdict = Verdict{.outcome = ComparisonOutcome::kRaced};
  } else if (!verdict.only_old_failed && !verdict.only_new_failed && verdict.outcome.has_value()) {
    verdict.outcome = ComparisonOutcome::kLagged;
  }
  Conclude(task, std::move(verdict));
}

void ComparisonRunner::Conclude(const TaskPtr& task, Verdict verdict) {
  if (verdict.is_mismatch() && task->settle_passes_ < options_.settle_delays.size()) {
    return client_->executor().Submit(options_.settle_delays[task->settle_passes_],
                                      [task] { task->runner_->SettlePass(task); });
  }
  if (!verdict.outcome.has_value()) return;
  task->verdict_ = std::move(verdict);
  if (prng_.Unit() >= options_.paired_latency_share || !client_->accepts_comparisons()) {
    return Record(*task, std::nullopt);
  }
  client_->executor().Submit(absl::ZeroDuration(), [task] { task->runner_->TimingPass(*task); });
}

void ComparisonRunner::TimingPass(const ComparisonTask& task) {
  const auto time = [&](Side side) {
    return Time(task, side, options_.comparison_deadline, client_->clock());
  };
  // The second read finds warmer caches than the first: in random order, that favours neither side.
  const Side first = prng_.Unit() < 0.5 ? Side::kOld : Side::kNew;
  const std::optional<absl::Duration> from_first = time(first);
  if (!from_first.has_value()) return Record(task, std::nullopt);
  const std::optional<absl::Duration> from_second = time(OtherSide(first));
  if (!from_second.has_value()) return Record(task, std::nullopt);
  Record(task,
         first == Side::kOld ? TimedPair{*from_first, *from_second} : TimedPair{*from_second, *from_first});
}

// The pair is recorded with its comparison: the counts of one bucket must belong together.
void ComparisonRunner::Record(const ComparisonTask& task, std::optional<TimedPair> timed) {
  const Verdict& verdict = task.verdict_;
  client_->telemetry().RecordComparison(task.route.attribution(), task.route.state().salt_seed,
                                        {.outcome = *verdict.outcome,
                                         .only_old_failed = verdict.only_old_failed,
                                         .only_new_failed = verdict.only_new_failed,
                                         .differences = &verdict.differences,
                                         .routing_key = task.routing_key,
                                         .trace_id = task.trace_id,
                                         .subject = task.subject.empty() ? task.routing_key : task.subject,
                                         .timed = timed});
}

}  // namespace lockstep::internal
