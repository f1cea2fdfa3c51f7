#include "core/wire/plan.h"

#include <algorithm>
#include <string>

#include "absl/strings/ascii.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/string_view.h"
#include "core/wire/enums.h"
#include "core/wire/timestamps.h"

namespace lockstep::wire {
namespace {

constexpr size_t kMaxServiceCharacters = 63;

v1::Check ToProto(const domain::Check& check) {
  v1::Check out;
  out.set_name(check.name);
  out.set_metric(wire::ToProto(check.metric));
  out.set_budget(check.budget);
  out.set_floor(check.floor);
  out.set_field(check.field);
  out.set_advisory(check.advisory);
  out.set_on_breach(wire::ToProto(check.on_breach));
  out.set_quantile(check.quantile);
  out.set_limit(check.limit);
  return out;
}

v1::PlanStep ToProto(const domain::PlanStep& step) {
  v1::PlanStep out;
  out.set_stage(wire::ToProto(step.stage));
  out.set_weight(step.weight);
  *out.mutable_min_bake() = wire::ToProto(step.min_bake);
  for (const domain::Check& check : step.checks) *out.add_checks() = ToProto(check);
  out.set_manual(step.manual);
  if (step.deadline != absl::ZeroDuration()) *out.mutable_deadline() = wire::ToProto(step.deadline);
  return out;
}

v1::TelemetryLimits ToProto(const domain::TelemetryLimits& limits) {
  v1::TelemetryLimits out;
  out.set_max_not_comparable(limits.max_not_comparable);
  out.set_max_share_skew(limits.max_share_skew);
  *out.mutable_stale_after() = wire::ToProto(limits.stale_after);
  return out;
}

v1::CutoverLimits ToProto(const domain::CutoverLimits& limits) {
  v1::CutoverLimits out;
  out.set_slice_weight(limits.slice_weight);
  *out.mutable_max_hold() = wire::ToProto(limits.max_hold);
  return out;
}

// Its length is for domain::ValidatePlan.
void CheckName(const FieldPath& path, absl::string_view name, Violations& violations) {
  const bool known_characters = std::all_of(name.begin(), name.end(), [](unsigned char c) {
    return absl::ascii_islower(c) || absl::ascii_isdigit(c) || c == '_' || c == '-';
  });
  if (!known_characters) violations.Add(path, "has other characters than a-z, 0-9, '_' and '-'");
}

domain::Check ReadCheck(const v1::Check& check, const FieldPath& path, Violations& violations) {
  domain::Check out;
  out.name = check.name();
  out.metric = ReadEnum(check.metric(), path / "metric", violations);
  out.budget = check.budget();
  out.floor = check.floor();
  out.field = check.field();
  out.advisory = check.advisory();
  out.on_breach = ReadEnum(check.on_breach(), path / "on_breach", violations);
  out.quantile = check.quantile();
  out.limit = check.limit();
  return out;
}

domain::PlanStep ReadStep(const v1::PlanStep& step, const FieldPath& path, Violations& violations) {
  domain::PlanStep out;
  out.stage = ReadEnum(step.stage(), path / "stage", violations);
  out.weight = step.weight();
  out.min_bake = ReadPeriod(step.min_bake(), path / "min_bake", violations);
  out.checks.reserve(step.checks_size());
  for (int i = 0; i < step.checks_size(); ++i) {
    out.checks.push_back(ReadCheck(step.checks(i), path.At("checks", i), violations));
  }
  out.manual = step.manual();
  out.deadline = ReadPeriod(step.deadline(), path / "deadline", violations);
  return out;
}

domain::TelemetryLimits ReadTelemetryLimits(const v1::TelemetryLimits& limits, const FieldPath& path,
                                            Violations& violations) {
  domain::TelemetryLimits out;
  if (limits.max_not_comparable() != 0) out.max_not_comparable = limits.max_not_comparable();
  if (limits.max_share_skew() != 0) out.max_share_skew = limits.max_share_skew();
  if (limits.has_stale_after()) {
    out.stale_after = ReadPeriod(limits.stale_after(), path / "stale_after", violations);
  }
  return out;
}

domain::CutoverLimits ReadCutoverLimits(const v1::CutoverLimits& limits, const FieldPath& path,
                                        Violations& violations) {
  domain::CutoverLimits out;
  if (limits.slice_weight() != 0) out.slice_weight = limits.slice_weight();
  if (limits.has_max_hold()) out.max_hold = ReadPeriod(limits.max_hold(), path / "max_hold", violations);
  return out;
}

// What the API demands beyond domain::ValidatePlan; `path` is the plan's.
void CheckNames(const domain::MigrationPlan& plan, const FieldPath& path, Violations& violations) {
  for (size_t i = 0; i < plan.steps.size(); ++i) {
    const FieldPath step_path = path.At("steps", i);
    for (size_t j = 0; j < plan.steps[i].checks.size(); ++j) {
      const FieldPath check_path = step_path.At("checks", j);
      CheckName(check_path / "name", plan.steps[i].checks[j].name, violations);
    }
  }
  for (size_t i = 0; i < plan.expected_services.size(); ++i) {
    const FieldPath service_path = path.At("expected_services", i);
    CheckLength(service_path / "service", plan.expected_services[i].service,
                {.min = 1, .max = kMaxServiceCharacters}, violations);
  }
}

}  // namespace

v1::Plan ToProto(const domain::MigrationPlan& plan) {
  v1::Plan out;
  for (const domain::PlanStep& step : plan.steps) *out.add_steps() = ToProto(step);
  out.set_alpha_rollback(plan.alpha_rollback);
  out.set_alpha_advance(plan.alpha_advance);
  for (const domain::ExpectedService& service : plan.expected_services) {
    v1::ExpectedService* added = out.add_expected_services();
    added->set_service(service.service);
    added->set_min_instances(service.min_instances);
  }
  *out.mutable_cool_down() = ToProto(plan.cool_down);
  *out.mutable_telemetry_limits() = ToProto(plan.telemetry_limits);
  *out.mutable_cutover() = ToProto(plan.cutover);
  return out;
}

domain::MigrationPlan ReadPlan(const v1::Plan& plan, const FieldPath& path, Violations& violations) {
  domain::MigrationPlan out;
  out.steps.reserve(plan.steps_size());
  for (int i = 0; i < plan.steps_size(); ++i) {
    out.steps.push_back(ReadStep(plan.steps(i), path.At("steps", i), violations));
  }
  if (plan.alpha_rollback() != 0) out.alpha_rollback = plan.alpha_rollback();
  if (plan.alpha_advance() != 0) out.alpha_advance = plan.alpha_advance();
  for (const v1::ExpectedService& service : plan.expected_services()) {
    out.expected_services.push_back({service.service(), service.min_instances()});
  }
  out.cool_down = ReadPeriod(plan.cool_down(), path / "cool_down", violations);
  out.telemetry_limits = ReadTelemetryLimits(plan.telemetry_limits(), path / "telemetry_limits", violations);
  out.cutover = ReadCutoverLimits(plan.cutover(), path / "cutover", violations);
  return out;
}

void CheckPlan(const domain::MigrationPlan& plan, const domain::Contract& contract, Violations& violations) {
  const FieldPath root;
  CheckNames(plan, root / "plan", violations);
  for (const domain::Violation& violation : domain::ValidatePlan(plan, contract)) {
    violations.Add(violation.path, violation.message);
  }
}

void CheckPlan(const domain::MigrationPlan& plan, const FieldPath& parent, Violations& violations) {
  CheckNames(plan, parent / "plan", violations);
  const std::string prefix = parent.ToString();
  for (const domain::Violation& violation : domain::ValidatePlan(plan)) {
    violations.Add(prefix.empty() ? violation.path : absl::StrCat(prefix, ".", violation.path),
                   violation.message);
  }
}

}  // namespace lockstep::wire
