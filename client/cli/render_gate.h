// The gate's evidence for people: pure functions from messages to text. Lines end with a line break.
#pragma once

#include <string>
#include <vector>

#include "absl/strings/string_view.h"
#include "client/cli/render.h"
#include "core/domain/rehearsal.h"
#include "lockstep/v1/gate_service.pb.h"

namespace lockstep::cli {

// Of one check: "mismatch_ratio of city", "latency p95".
std::string MetricText(const v1::CheckResult& check);
// "0.02 % (1 of 5,000)"; for metrics that compare the sides both of them.
std::string ObservedText(const v1::CheckResult& check);
// "in [0.01 %, 0.04 %]"; empty for levels, which have no uncertainty.
std::string IntervalText(const v1::CheckResult& check);
// "budget 0.1 %", "floor 0.5 %", "limit 10"; empty without one.
std::string BoundText(const v1::CheckResult& check);
// For HOLD: "needs 1,203 more clean, about 5m", "will not resolve", ...; else empty.
std::string MissingText(const v1::CheckResult& check);

// The verdict with its sentence, the rest of the bake time, and the open guards.
std::string RenderVerdict(const v1::GateResult& gate, const RenderOptions& options);

// Verdict, guards, the last decision, and all there is to say of each check.
std::string RenderExplanation(absl::string_view migration, const v1::ExplainGateResponse& response,
                              const RenderOptions& options);

// One line for each check of each bucket; what was decided stands in its bucket's first line. `buckets` are
// what `gate replay -o jsonl` prints.
std::string RenderReplay(const std::vector<v1::ExplainGateResponse>& buckets, const RenderOptions& options);

// What is shown of one simulation.
struct SimulationView {
  std::string title;  // "Healthy traffic: 400 reads/s, ..."
  const domain::MigrationPlan* plan = nullptr;
  const domain::SimulationSummary* summary = nullptr;
  absl::Duration onset = absl::ZeroDuration();  // what is wrong begins then
  bool healthy = true;                          // a rollback is a false one
};

std::string RenderSimulation(const SimulationView& view, const RenderOptions& options);
// The same as one JSON object, without a line break; durations in seconds.
std::string SimulationJson(const SimulationView& view);

}  // namespace lockstep::cli
