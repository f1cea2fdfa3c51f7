#include "core/wire/plan.h"

#include <utility>

#include "core/wire/enums.h"
#include "core/wire/timestamps.h"

namespace lockstep::wire {
namespace {

constexpr size_t kMaxServiceCharacters = 63;
constexpr size_t kMaxExpectedServices = 256;
constexpr size_t kMaxFieldPathBytes = 256;
constexpr size_t kMaxCheckNameCharacters = 63;

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

void CheckPlan(const domain::MigrationPlan& plan, const FieldPath& path, Violations& violations) {
  CheckCount(path / "steps", plan.steps.size(), {.max = domain::kMaxPlanSteps}, violations);
  for (size_t i = 0; i < plan.steps.size(); ++i) {
    const FieldPath step_path = path.At("steps", i);
    const auto& checks = plan.steps[i].checks;
    CheckCount(step_path / "checks", checks.size(), {.max = domain::kMaxChecksPerStep}, violations);
    for (size_t j = 0; j < checks.size(); ++j) {
      const FieldPath check_path = step_path.At("checks", j);
      CheckLength(check_path / "name", checks[j].name, {.min = 1, .max = kMaxCheckNameCharacters},
                  violations);
      CheckBytes(check_path / "field", checks[j].field.size(), {.max = kMaxFieldPathBytes}, violations);
      CheckFinite(check_path / "budget", checks[j].budget, violations);
      CheckFinite(check_path / "floor", checks[j].floor, violations);
    }
  }
  CheckFinite(path / "alpha_rollback", plan.alpha_rollback, violations);
  CheckFinite(path / "alpha_advance", plan.alpha_advance, violations);
  CheckCount(path / "expected_services", plan.expected_services.size(), {.max = kMaxExpectedServices},
             violations);
  for (size_t i = 0; i < plan.expected_services.size(); ++i) {
    const FieldPath service_path = path.At("expected_services", i);
    CheckLength(service_path / "service", plan.expected_services[i].service,
                {.min = 1, .max = kMaxServiceCharacters}, violations);
    if (plan.expected_services[i].min_instances == 0) {
      violations.Add(service_path / "min_instances", "is 0; at least 1 instance has to be expected");
    }
  }
  for (const domain::Violation& violation : domain::ValidatePlan(plan)) {
    violations.Add(violation.path, violation.message);
  }
}

}  // namespace lockstep::wire
