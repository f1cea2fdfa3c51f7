#include "core/domain/log_math.h"

#include <algorithm>
#include <cmath>
#include <limits>

#include "absl/strings/str_cat.h"

namespace lockstep::domain {
namespace {

constexpr double kInfinity = std::numeric_limits<double>::infinity();

}  // namespace

double LogAddExp(double a, double b) {
  const double high = std::max(a, b);
  // Either both are zero (as logarithms) or one is infinite: the difference below would be NaN.
  if (std::isinf(high)) return high;
  return high + std::log1p(std::exp(std::min(a, b) - high));
}

double LogSumExp(absl::Span<const double> terms) {
  double high = -kInfinity;
  for (double term : terms) high = std::max(high, term);
  if (std::isinf(high)) return high;
  double sum = 0;
  for (double term : terms) {
    if (term - high > kNegligible) sum += std::exp(term - high);
  }
  return high + std::log(sum);
}

absl::Status CheckSum(absl::string_view what, uint64_t a, uint64_t b) {
  if (a <= kMaxCount && b <= kMaxCount - a) return absl::OkStatus();
  return absl::OutOfRangeError(absl::StrCat(what, ": ", a, " + ", b, " is above the largest count, ",
                                            kMaxCount, "; nothing was added"));
}

}  // namespace lockstep::domain
