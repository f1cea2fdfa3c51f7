// What the gate says to people: its numbers as sentences. Pure formatting of results that are otherwise
// complete.
#pragma once

#include <optional>
#include <string>

#include "core/domain/change_point_evidence.h"
#include "core/domain/gate.h"
#include "core/domain/plan.h"

namespace lockstep::domain {

// 1240 -> "1,240".
std::string CountInWords(uint64_t n);
// A rate with two significant digits (three from 10 % on, more where it would round to 100 %): 0.0824 ->
// "8.2 %".
std::string PercentInWords(double rate);
// Without fractions of a second: "2m5s".
std::string DurationInWords(absl::Duration duration);

// What a rollback on this check rejects.
std::string NullHypothesisInWords(const Check& check);

// `result` is complete but for its sentence. `rise`: what is known of the stretch since the rate rose;
// `scope_start`: since when `result` counts.
std::string CheckSentence(const Check& check, const CheckResult& result,
                          const std::optional<ChangePointEvidence::Rise>& rise, absl::Time scope_start);

// Why the gate holds: everything that does, the first in full.
std::string HoldSentence(const GateResult& result, const PlanStep& step);

}  // namespace lockstep::domain
