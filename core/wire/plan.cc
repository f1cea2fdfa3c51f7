#include "core/wire/plan.h"

#include <algorithm>

#include "absl/strings/ascii.h"
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
  return out;
}

v1::PlanStep ToProto(const domain::PlanStep& step) {
  v1::PlanStep out;
  out.set_stage(wire::ToProto(step.stage));
  out.set_weight(step.weight);
  *out.mutable_min_bake() = wire::ToProto(step.min_bake);
  for (const domain::Check& check : step.checks) *out.add_checks() = ToProto(check);
  out.set_manual(step.manual);
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
  return out;
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
  return out;
}

void CheckPlan(const domain::MigrationPlan& plan, const domain::Contract& contract, Violations& violations) {
  const FieldPath root;
  const FieldPath path = root / "plan";
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
  for (const domain::Violation& violation : domain::ValidatePlan(plan, contract)) {
    violations.Add(violation.path, violation.message);
  }
}

}  // namespace lockstep::wire
