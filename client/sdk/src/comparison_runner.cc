#include "lockstep/internal/comparison_runner.h"

#include <utility>
#include <vector>

#include "lockstep/internal/write_plan.h"

namespace lockstep::internal {

using domain::ComparisonOutcome;
using domain::Side;

// How a pair of answers compares.
struct ComparisonRunner::Verdict {
  // Nothing: both sides failed, so there was no comparison.
  std::optional<ComparisonOutcome> outcome;
  bool only_old_failed = false;
  bool only_new_failed = false;
  std::vector<FieldDifference> differences;

  bool is_mismatch() const {
    return outcome.has_value() && domain::InfoOf(*outcome).kind == domain::OutcomeKind::kMismatch;
  }
};

// One comparison from Start to its record. It ends without one when the executor drops it; its place is given
// back either way.
struct ComparisonRunner::Running {
  Running(std::shared_ptr<ComparisonRunner> runner, ComparisonTask task)
      : runner(std::move(runner)), task(std::move(task)) {}
  ~Running() { runner->in_flight_.fetch_sub(1, std::memory_order_relaxed); }

  const std::shared_ptr<ComparisonRunner> runner;
  const ComparisonTask task;
  size_t settle_passes = 0;
  // The authoritative side as last read.
  std::optional<RecordView> authoritative;
  Verdict verdict;  // once it is concluded
};

namespace {

struct Answer {
  SideView view = std::optional<RecordView>();
  bool timed_out = false;

  bool failed() const { return timed_out || !view.ok(); }
  const RecordView* record() const { return view->has_value() ? &**view : nullptr; }
};

// A late answer counts as none: the deadline bounds what a sick side may cost, whether its code honours it or
// not.
Answer ReadTimed(const ComparisonTask& task, Side side, absl::Duration timeout, const Clock& clock) {
  const absl::Duration start = clock.SinceBoot();
  Answer answer;
  answer.view = task.read(side, clock.Now() + timeout, /*convert=*/true);
  answer.timed_out = clock.SinceBoot() - start > timeout || absl::IsDeadlineExceeded(answer.view.status());
  return answer;
}

// Infinite for a read that did not end in time, nothing for one that failed.
std::optional<absl::Duration> Time(const ComparisonTask& task, Side side, absl::Duration timeout,
                                   const Clock& clock) {
  const absl::Duration start = clock.SinceBoot();
  const absl::Status status = task.read(side, clock.Now() + timeout, /*convert=*/false).status();
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

void ComparisonRunner::Start(ComparisonTask task) {
  auto running = std::make_shared<Running>(shared_from_this(), std::move(task));
  client_->executor().Submit(absl::ZeroDuration(),
                             [running = std::move(running)] { running->runner->FirstPass(running); });
}

void ComparisonRunner::FirstPass(const std::shared_ptr<Running>& running) {
  const ComparisonTask& task = running->task;
  const Answer served{.view = task.served()};
  const Answer shadow =
      ReadTimed(task, OtherSide(task.served_side), options_.comparison_deadline, client_->clock());
  const bool old_served = task.served_side == Side::kOld;
  const Answer& from_old = old_served ? served : shadow;
  const Answer& from_new = old_served ? shadow : served;
  Verdict verdict = Judge<Verdict>(from_old, from_new, task.route.contract());
  if (verdict.is_mismatch()) {
    running->authoritative = *(AuthoritativeSide(task) == Side::kOld ? from_old : from_new).view;
  }
  Conclude(running, std::move(verdict));
}

void ComparisonRunner::SettlePass(const std::shared_ptr<Running>& running) {
  const ComparisonTask& task = running->task;
  ++running->settle_passes;
  // The mirror first: if it has caught up with the authoritative side in between, that is no mismatch.
  const Side authoritative_side = AuthoritativeSide(task);
  const Answer mirror =
      ReadTimed(task, OtherSide(authoritative_side), options_.comparison_deadline, client_->clock());
  const Answer authoritative =
      ReadTimed(task, authoritative_side, options_.comparison_deadline, client_->clock());
  const bool old_is_authoritative = authoritative_side == Side::kOld;
  Verdict verdict = Judge<Verdict>(old_is_authoritative ? authoritative : mirror,
                                   old_is_authoritative ? mirror : authoritative, task.route.contract());
  if (verdict.is_mismatch()) {
    const bool changed = *authoritative.view != running->authoritative;
    running->authoritative = *authoritative.view;
    // Somebody is writing the record: the pair that was read last is not a pair.
    const bool is_last = running->settle_passes == options_.settle_delays.size();
    if (changed && is_last) verdict = Verdict{.outcome = ComparisonOutcome::kRaced};
  } else if (!verdict.only_old_failed && !verdict.only_new_failed && verdict.outcome.has_value()) {
    verdict.outcome = ComparisonOutcome::kLagged;
  }
  Conclude(running, std::move(verdict));
}

void ComparisonRunner::Conclude(const std::shared_ptr<Running>& running, Verdict verdict) {
  if (verdict.is_mismatch() && running->settle_passes < options_.settle_delays.size()) {
    return client_->executor().Submit(options_.settle_delays[running->settle_passes],
                                      [running] { running->runner->SettlePass(running); });
  }
  if (!verdict.outcome.has_value()) return;
  running->verdict = std::move(verdict);
  if (!client_->accepts_comparisons() || !Draw(options_.paired_latency_share)) {
    return Record(*running, std::nullopt);
  }
  client_->executor().Submit(absl::ZeroDuration(), [running] { running->runner->TimingPass(*running); });
}

void ComparisonRunner::TimingPass(const Running& running) {
  const auto time = [&](Side side) {
    return Time(running.task, side, options_.comparison_deadline, client_->clock());
  };
  // The second read finds warmer caches than the first: in random order, that favours neither side.
  const Side first = Draw(0.5) ? Side::kOld : Side::kNew;
  const std::optional<absl::Duration> from_first = time(first);
  if (!from_first.has_value()) return Record(running, std::nullopt);
  const std::optional<absl::Duration> from_second = time(OtherSide(first));
  if (!from_second.has_value()) return Record(running, std::nullopt);
  Record(running,
         first == Side::kOld ? TimedPair{*from_first, *from_second} : TimedPair{*from_second, *from_first});
}

bool ComparisonRunner::Draw(double probability) {
  MutexLock lock(&prng_mutex_);
  return prng_.Unit() < probability;
}

// The pair is recorded with its comparison: the counts of one bucket must belong together.
void ComparisonRunner::Record(const Running& running, std::optional<TimedPair> timed) {
  const ComparisonTask& task = running.task;
  const Verdict& verdict = running.verdict;
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
