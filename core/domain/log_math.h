// Arithmetic the statistics share: sums of numbers held as logarithms, and counts that stay exact.
//
// Evidence is held as its natural logarithm, because it spans hundreds of orders of magnitude. -infinity is
// the logarithm of zero and a valid input everywhere; NaN is not.
//
// Counts are integers up to kMaxCount, the range in which a double holds every integer: a sum of counts is
// then exact whether it is done in integers or in doubles, and independent of its order.
#pragma once

#include <cstdint>

#include "absl/status/status.h"
#include "absl/strings/string_view.h"
#include "absl/types/span.h"

namespace lockstep::domain {

// 2^53. At 100,000 requests a second a counter gets there in 2,800 years.
inline constexpr uint64_t kMaxCount = uint64_t{1} << 53;

// A term whose logarithm is so far below another's does not change their sum: e^-40 is below half a bit of a
// double.
inline constexpr double kNegligible = -40;

// ln(e^a + e^b), without overflow or loss for arguments of any size.
double LogAddExp(double a, double b);

// ln(sum of e^terms[i]), added in the order given. -infinity for no terms.
double LogSumExp(absl::Span<const double> terms);

// OutOfRange unless a + b <= kMaxCount; `what` names the counter in the message.
absl::Status CheckSum(absl::string_view what, uint64_t a, uint64_t b);

}  // namespace lockstep::domain
