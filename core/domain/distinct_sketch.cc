#include "core/domain/distinct_sketch.h"

#include <algorithm>
#include <array>
#include <bit>
#include <cmath>
#include <limits>
#include <numbers>

#include "absl/strings/str_cat.h"
#include "core/domain/log_math.h"

namespace lockstep::domain {
namespace {

constexpr int kValueBits = 64 - DistinctSketch::kIndexBits;

// sigma(x) = x + sum over k >= 1 of x^(2^k) * 2^(k-1): Ertl 2017, section 2.3, algorithm 6. Infinite at 1.
double Sigma(double x) {
  if (x == 1) return std::numeric_limits<double>::infinity();
  double power = x, weight = 1, sum = x, previous = 0;
  do {
    previous = sum;
    power *= power;
    sum += power * weight;
    weight += weight;
  } while (sum != previous);
  return sum;
}

// tau(x) = (1 - x - sum over k >= 1 of (1 - x^(2^-k))^2 * 2^-k) / 3: as above.
double Tau(double x) {
  if (x == 0 || x == 1) return 0;
  double root = x, weight = 1, sum = 1 - x, previous = 0;
  do {
    previous = sum;
    root = std::sqrt(root);
    weight *= 0.5;
    sum -= (1 - root) * (1 - root) * weight;
  } while (sum != previous);
  return sum / 3;
}

}  // namespace

void DistinctSketch::Add(uint64_t hash) {
  const size_t index = hash >> kValueBits;
  const uint64_t value = hash << kIndexBits;
  const uint8_t rank = value == 0 ? kMaxRank : static_cast<uint8_t>(std::countl_zero(value) + 1);
  if (registers_.empty()) registers_.resize(kRegisters);
  registers_[index] = std::max(registers_[index], rank);
}

void DistinctSketch::Merge(const DistinctSketch& other) {
  if (other.empty()) return;
  if (empty()) {
    registers_ = other.registers_;
    return;
  }
  for (size_t i = 0; i < kRegisters; ++i) registers_[i] = std::max(registers_[i], other.registers_[i]);
}

double DistinctSketch::LowerBound() const {
  const double estimate = Estimate();
  if (estimate == 0) return 0;
  const double registers = kRegisters;
  const double load = estimate / registers;
  // e^load overflows to infinity for large ones, where the other error is the smaller.
  const double linear_counting = std::sqrt((std::expm1(load) - load) / registers) / load;
  return estimate * (1 - 3 * std::min(kStandardError, linear_counting));
}

size_t DistinctSketch::hit_registers() const {
  return registers_.size() - static_cast<size_t>(std::count(registers_.begin(), registers_.end(), 0));
}

// Ertl 2017, algorithm 6: alpha m^2 / (m sigma(C_0 / m) + sum over k of C_k 2^-k + m tau(1 - C_max / m) 2^-q)
// with C_k registers of value k, and alpha = 1 / (2 ln 2).
double DistinctSketch::Estimate() const {
  if (empty()) return 0;
  std::array<double, kMaxRank + 1> histogram = {};
  for (uint8_t rank : registers_) ++histogram[rank];
  constexpr double kCount = kRegisters;
  double sum = kCount * Tau(1 - histogram[kMaxRank] / kCount);
  for (int rank = kMaxRank - 1; rank >= 1; --rank) sum = 0.5 * (sum + histogram[rank]);
  sum += kCount * Sigma(histogram[0] / kCount);
  // The sum is 0 if every register is full, which no number of real subjects achieves.
  return std::min(kCount * kCount / (2 * std::numbers::ln2 * sum), static_cast<double>(kMaxCount));
}

absl::StatusOr<DistinctSketch> DistinctSketch::FromRegisters(absl::Span<const uint8_t> registers) {
  DistinctSketch sketch;
  if (registers.empty()) return sketch;
  if (registers.size() != kRegisters) {
    return absl::InvalidArgumentError(
        absl::StrCat("distinct sketch: ", registers.size(), " registers; send none or ", kRegisters));
  }
  bool hit = false;
  for (size_t i = 0; i < kRegisters; ++i) {
    if (registers[i] > kMaxRank) {
      return absl::InvalidArgumentError(absl::StrCat("distinct sketch: register ", i, " is ", registers[i],
                                                     "; the largest value is ", kMaxRank));
    }
    hit = hit || registers[i] != 0;
  }
  if (hit) sketch.registers_.assign(registers.begin(), registers.end());
  return sketch;
}

}  // namespace lockstep::domain
