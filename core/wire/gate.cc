#include "core/wire/gate.h"

#include <string>

#include "absl/strings/str_cat.h"
#include "core/base/status_macros.h"
#include "core/base/utf8.h"
#include "core/wire/enums.h"
#include "core/wire/resource_name.h"
#include "core/wire/timestamps.h"

namespace lockstep::wire {
namespace {

v1::CheckResult ToProto(const domain::CheckResult& result) {
  v1::CheckResult out;
  out.set_check(result.check);
  out.set_metric(wire::ToProto(result.metric));
  out.set_verdict(wire::ToProto(result.verdict));
  out.set_advisory(result.advisory);
  out.set_on_breach(wire::ToProto(result.on_breach));
  out.set_null_hypothesis(result.null_hypothesis);
  out.set_bad(result.bad);
  out.set_total(result.total);
  out.set_bad_baseline(result.bad_baseline);
  out.set_total_baseline(result.total_baseline);
  out.set_estimate(result.estimate);
  out.set_lower(result.lower);
  out.set_upper(result.upper);
  out.set_budget(result.budget);
  out.set_log_evidence_rollback(result.log_evidence_rollback);
  out.set_log_threshold_rollback(result.log_threshold_rollback);
  out.set_log_evidence_advance(result.log_evidence_advance);
  out.set_log_threshold_advance(result.log_threshold_advance);
  if (result.needed_more.has_value()) out.set_needed_more(*result.needed_more);
  out.set_sentence(result.sentence);
  out.set_field(result.field);
  out.set_quantile(result.quantile);
  out.set_affected_subjects(result.affected_subjects);
  out.set_affected_subjects_baseline(result.affected_subjects_baseline);
  out.set_distinct_subjects(result.distinct_subjects);
  out.set_dispersion(result.dispersion);
  if (result.onset.has_value()) *out.mutable_onset_time() = wire::ToProto(*result.onset);
  if (result.eta.has_value()) *out.mutable_eta() = wire::ToProto(*result.eta);
  out.set_will_not_resolve(result.will_not_resolve);
  out.set_rising(result.rising);
  return out;
}

domain::CheckResult ReadCheckResult(const v1::CheckResult& result, const FieldPath& path,
                                    Violations& violations) {
  domain::CheckResult out;
  out.check = result.check();
  out.metric = ReadEnum(result.metric(), path / "metric", violations);
  out.verdict = ReadEnum(result.verdict(), path / "verdict", violations);
  out.advisory = result.advisory();
  out.on_breach = ReadEnum(result.on_breach(), path / "on_breach", violations);
  out.null_hypothesis = result.null_hypothesis();
  out.bad = result.bad();
  out.total = result.total();
  out.bad_baseline = result.bad_baseline();
  out.total_baseline = result.total_baseline();
  out.estimate = result.estimate();
  out.lower = result.lower();
  out.upper = result.upper();
  out.budget = result.budget();
  out.log_evidence_rollback = result.log_evidence_rollback();
  out.log_threshold_rollback = result.log_threshold_rollback();
  out.log_evidence_advance = result.log_evidence_advance();
  out.log_threshold_advance = result.log_threshold_advance();
  if (result.has_needed_more()) out.needed_more = result.needed_more();
  out.sentence = result.sentence();
  out.field = result.field();
  out.quantile = result.quantile();
  out.affected_subjects = result.affected_subjects();
  out.affected_subjects_baseline = result.affected_subjects_baseline();
  out.distinct_subjects = result.distinct_subjects();
  // 0 in records of versions that divided by nothing.
  if (result.dispersion() != 0) out.dispersion = result.dispersion();
  if (result.has_onset_time()) out.onset = ReadTime(result.onset_time(), path / "onset_time", violations);
  if (result.has_eta()) out.eta = ReadDuration(result.eta(), path / "eta", violations);
  out.will_not_resolve = result.will_not_resolve();
  out.rising = result.rising();
  return out;
}

}  // namespace

v1::GateResult ToProto(const domain::GateResult& result, absl::Time evaluate_time) {
  v1::GateResult out;
  out.set_verdict(ToProto(result.verdict));
  for (const domain::CheckResult& check : result.checks) *out.add_checks() = ToProto(check);
  for (const domain::Guard& guard : result.guards) {
    v1::Guard* added = out.add_guards();
    added->set_name(guard.name);
    added->set_sentence(guard.sentence);
  }
  *out.mutable_bake_remaining() = ToProto(result.bake_remaining);
  out.set_action(ToProto(result.action));
  out.set_sentence(result.sentence);
  SetTime(evaluate_time, out, &v1::GateResult::mutable_evaluate_time);
  out.set_log_evidence_rollback(result.log_evidence_rollback);
  out.set_log_threshold_rollback(result.log_threshold_rollback);
  for (const std::string& field : result.suspect_fields) out.add_suspect_fields(ToValidUtf8(field));
  out.set_evidence_restarts(result.evidence_restarts);
  out.set_deadline_passed(result.deadline_passed);
  return out;
}

domain::GateResult ReadGateResult(const v1::GateResult& result, const FieldPath& path,
                                  Violations& violations) {
  domain::GateResult out;
  out.verdict = ReadEnum(result.verdict(), path / "verdict", violations);
  out.checks.reserve(result.checks_size());
  for (int i = 0; i < result.checks_size(); ++i) {
    out.checks.push_back(ReadCheckResult(result.checks(i), path.At("checks", i), violations));
  }
  for (const v1::Guard& guard : result.guards()) out.guards.push_back({guard.name(), guard.sentence()});
  out.bake_remaining = ReadDuration(result.bake_remaining(), path / "bake_remaining", violations);
  out.action = ReadEnum(result.action(), path / "action", violations);
  out.sentence = result.sentence();
  out.log_evidence_rollback = result.log_evidence_rollback();
  out.log_threshold_rollback = result.log_threshold_rollback();
  out.suspect_fields = {result.suspect_fields().begin(), result.suspect_fields().end()};
  out.evidence_restarts = result.evidence_restarts();
  out.deadline_passed = result.deadline_passed();
  return out;
}

absl::StatusOr<ExplainGateRequest> ExplainGateFromProto(const v1::ExplainGateRequest& request,
                                                        absl::Time now) {
  Violations violations;
  const FieldPath root;
  ExplainGateRequest out;
  CheckMigrationName(root / "name", request.name(), violations);
  out.name = request.name();
  if (request.has_time()) out.time = ReadTime(request.time(), root / "time", violations);
  if (out.time.has_value() && *out.time > now) {
    violations.Add(
        root / "time",
        absl::StrCat(absl::FormatTime(*out.time, absl::UTCTimeZone()), " is ahead of the server's clock, ",
                     absl::FormatTime(now, absl::UTCTimeZone()), "; leave it out to ask for now"));
  }
  LOCKSTEP_RETURN_IF_ERROR(violations.ToStatus());
  return out;
}

absl::Status ValidateExportEvidenceRequest(const v1::ExportEvidenceRequest& request) {
  return ValidateMigrationName("name", request.name());
}

}  // namespace lockstep::wire
