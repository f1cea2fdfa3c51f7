#include "server/engine/gate_guards.h"

#include <algorithm>
#include <optional>
#include <string>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "core/domain/ladder.h"
#include "core/domain/transition.h"

namespace lockstep::engine {
namespace {

constexpr char kExpectedInstances[] = "expected_instances";
constexpr char kUnexpectedInstance[] = "unexpected_instance";
constexpr char kSilentInstance[] = "silent_instance";
constexpr char kMirrorBacklog[] = "mirror_backlog";

// Sentences name so many instances; people find the others with `lockstep instance list`.
constexpr size_t kNamedInstances = 3;

// Sentences give moments instead of ages: they stay true, and the same, for as long as the guard is open.
std::string Moment(absl::Time time) {
  return absl::FormatTime("%Y-%m-%d %H:%M:%S UTC", time, absl::UTCTimeZone());
}

// The step whose state is published.
int StepOf(const GateSubject& subject) { return subject.timeline.segments().back().step; }

// Whether leaving `step` means that more reads move to the new side.
bool ReadsMoveNext(const domain::MigrationPlan& plan, int step) {
  const auto next = static_cast<size_t>(step) + 1;
  return next < plan.steps.size() && plan.steps[next].stage >= domain::Stage::kCanaryRead;
}

// "'a' of 'orders', 'b' of 'orders' and 4 more"
std::string NameSome(const std::vector<const InstanceView*>& instances) {
  std::vector<std::string> names;
  for (size_t i = 0; i < std::min(instances.size(), kNamedInstances); ++i) {
    names.push_back(absl::StrCat("'", instances[i]->instance_id, "' of '", instances[i]->service, "'"));
  }
  std::string text = absl::StrJoin(names, ", ");
  if (instances.size() > names.size())
    absl::StrAppend(&text, " and ", instances.size() - names.size(), " more");
  return text;
}

void AddExpectationGuards(const domain::Migration& migration, const std::vector<ReportingInstance>& instances,
                          std::vector<domain::Guard>* guards) {
  const auto& expected = migration.plan.expected_services;
  if (expected.empty()) return;
  for (const domain::ExpectedService& service : expected) {
    const auto enrolled = std::count_if(instances.begin(), instances.end(), [&](const ReportingInstance& i) {
      return i.instance.service == service.service;
    });
    if (static_cast<uint64_t>(enrolled) >= service.min_instances) continue;
    guards->push_back(
        {kExpectedInstances, absl::StrCat(enrolled, " of ", service.min_instances, " instances of '",
                                          service.service, "' are enrolled.")});
  }
  std::vector<const InstanceView*> strangers;
  for (const ReportingInstance& one : instances) {
    const bool is_expected =
        std::any_of(expected.begin(), expected.end(),
                    [&](const domain::ExpectedService& s) { return s.service == one.instance.service; });
    if (!is_expected) strangers.push_back(&one.instance);
  }
  if (strangers.empty()) return;
  guards->push_back({kUnexpectedInstance, absl::StrCat("enrolled, but of no service that the plan expects: ",
                                                       NameSome(strangers), ".")});
}

void AddSilenceGuard(const domain::Migration& migration, const std::vector<ReportingInstance>& instances,
                     absl::Time now, std::vector<domain::Guard>* guards) {
  const domain::LadderRow& row = domain::LadderRowOf(migration.published.stage);
  if (!row.compares && !(row.writes_old && row.writes_new)) return;
  const absl::Duration stale_after = migration.plan.telemetry_limits.stale_after;
  std::vector<const InstanceView*> silent;
  size_t disconnected = 0;
  for (const ReportingInstance& one : instances) {
    // Nothing is expected of an instance before it was there and before there was something to report.
    const absl::Time since = std::max({one.last_report, one.instance.enrolled_at, migration.step_started_at});
    if (now - since <= stale_after) continue;
    silent.push_back(&one.instance);
    disconnected += one.instance.connected ? 0 : 1;
  }
  if (silent.empty()) return;
  std::string sentence = absl::StrCat(silent.size(), " of ", instances.size(),
                                      " enrolled instances have sent no telemetry for more than ",
                                      absl::FormatDuration(stale_after), ": ", NameSome(silent), "; ");
  if (disconnected == 0) {
    absl::StrAppend(&sentence, "they are connected.");
  } else {
    absl::StrAppend(&sentence, disconnected, disconnected == 1 ? " is" : " are",
                    " disconnected and did not leave: restart them, or stop them cleanly.");
  }
  guards->push_back({kSilentInstance, std::move(sentence)});
}

// Readers of the new side must find there what was acknowledged.
void AddBacklogGuard(const std::vector<ReportingInstance>& instances, std::vector<domain::Guard>* guards) {
  std::vector<const InstanceView*> behind;
  for (const ReportingInstance& one : instances) {
    if (one.instance.owes_mirrors) behind.push_back(&one.instance);
  }
  if (behind.empty()) return;
  std::string first = domain::DescribeStatus(behind[0]->status);
  if (first.empty()) first = "it has not been heard of since this server started";
  guards->push_back({kMirrorBacklog, absl::StrCat("acknowledged writes are not on the new side yet, of ",
                                                  NameSome(behind), ": ", first, ".")});
}

}  // namespace

std::vector<domain::Guard> TrafficGuards(const GateSubject& subject, absl::Time last_comparison,
                                         absl::Time now) {
  const domain::Migration& migration = *subject.migration;
  std::vector<domain::Guard> guards;
  if (migration.pending) {
    guards.push_back(
        {"pending_publish", absl::StrCat(domain::StageName(migration.pending->stage),
                                         " is committed and waits for instances that may still act on "
                                         "an earlier state.")});
  }
  if (std::optional<domain::Guard> pins = domain::PinsGuard(migration)) guards.push_back(*std::move(pins));
  // Loss of telemetry is not clean. Without checks nothing is expected of it.
  const auto step = static_cast<size_t>(StepOf(subject));
  const bool expected = domain::LadderRowOf(migration.published.stage).compares &&
                        step < migration.plan.steps.size() && !migration.plan.steps[step].checks.empty();
  const absl::Time since = std::max(last_comparison, migration.step_started_at);
  const absl::Duration stale_after = migration.plan.telemetry_limits.stale_after;
  if (expected && now - since > stale_after) {
    guards.push_back(
        {"stale_telemetry", absl::StrCat("no comparisons were reported for more than ",
                                         absl::FormatDuration(stale_after), ", since ", Moment(since), ".")});
  }
  return guards;
}

std::vector<domain::Guard> InstanceGuards(const GateSubject& subject,
                                          const std::vector<ReportingInstance>& instances, absl::Time now) {
  const domain::Migration& migration = *subject.migration;
  std::vector<domain::Guard> guards;
  const bool reads_move = ReadsMoveNext(migration.plan, StepOf(subject));
  if (reads_move) AddExpectationGuards(migration, instances, &guards);
  if (reads_move && migration.published.stage < domain::Stage::kCanaryRead)
    AddBacklogGuard(instances, &guards);
  AddSilenceGuard(migration, instances, now, &guards);
  return guards;
}

bool IsInstanceGuard(const domain::Guard& guard) {
  return guard.name == kExpectedInstances || guard.name == kUnexpectedInstance ||
         guard.name == kSilentInstance || guard.name == kMirrorBacklog;
}

}  // namespace lockstep::engine
