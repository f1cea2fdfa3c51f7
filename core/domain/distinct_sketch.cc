#include "core/domain/distinct_sketch.h"

#include <algorithm>
#include <array>
#include <bit>
#include <cmath>
#include <cstring>
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

// Takes the larger of each two registers. A loop of constant length over memory that does not overlap, so
// that the compiler makes vector instructions of it: every batch of telemetry merges several sketches.
void RaiseRegisters(const uint8_t* __restrict from, uint8_t* __restrict into) {
  for (size_t i = 0; i < DistinctSketch::kRegisters; ++i) into[i] = into[i] < from[i] ? from[i] : into[i];
}

uint8_t LargestRegister(const uint8_t* registers) {
  uint8_t largest = 0;
  for (size_t i = 0; i < DistinctSketch::kRegisters; ++i) {
    largest = largest < registers[i] ? registers[i] : largest;
  }
  return largest;
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
  if (other.empty() || this == &other) return;
  if (empty()) {
    registers_ = other.registers_;
    return;
  }
  RaiseRegisters(other.registers_.data(), registers_.data());
}

double DistinctSketch::LowerBound() const { return LowerBound(Estimate()); }

double DistinctSketch::LowerBound(double estimate) {
  if (estimate == 0) return 0;
  const double registers = kRegisters;
  const double load = estimate / registers;
  // e^load overflows to infinity for large ones, where the other error is the smaller.
  const double linear_counting = std::sqrt((std::expm1(load) - load) / registers) / load;
  return estimate * (1 - 3 * std::min(kStandardError, linear_counting));
}

size_t DistinctSketch::hit_registers() const {
  if (empty()) return 0;
  // Of 8 registers at a time those that are not 0 get their highest bit set; the product adds these up.
  constexpr uint64_t kLowBits = 0x7f7f7f7f7f7f7f7f, kOnes = 0x0101010101010101;
  size_t hit = 0;
  for (size_t i = 0; i < kRegisters; i += sizeof(uint64_t)) {
    uint64_t word = 0;
    std::memcpy(&word, registers_.data() + i, sizeof(word));
    const uint64_t highest_bits = (((word & kLowBits) + kLowBits) | word) & ~kLowBits;
    hit += static_cast<size_t>(((highest_bits >> 7) * kOnes) >> 56);
  }
  return hit;
}

// Ertl 2017, algorithm 6: alpha m^2 / (m sigma(C_0 / m) + sum over k of C_k 2^-k + m tau(1 - C_max / m) 2^-q)
// with C_k registers of value k, and alpha = 1 / (2 ln 2).
double DistinctSketch::Estimate() const {
  if (empty()) return 0;
  // Neighbours mostly hold one of few ranks: counted apart, so that none waits for the count before it.
  constexpr size_t kLanes = 4;
  std::array<std::array<uint32_t, kMaxRank + 1>, kLanes> lanes = {};
  for (size_t i = 0; i < kRegisters; i += kLanes) {
    for (size_t lane = 0; lane < kLanes; ++lane) ++lanes[lane][registers_[i + lane]];
  }
  std::array<double, kMaxRank + 1> histogram = {};
  for (const auto& lane : lanes) {
    for (size_t rank = 0; rank <= kMaxRank; ++rank) histogram[rank] += lane[rank];
  }
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
  const uint8_t largest = LargestRegister(registers.data());
  if (largest > kMaxRank) {
    const auto wrong =
        std::find_if(registers.begin(), registers.end(), [](uint8_t r) { return r > kMaxRank; });
    return absl::InvalidArgumentError(absl::StrCat("distinct sketch: register ", wrong - registers.begin(),
                                                   " is ", *wrong, "; the largest value is ", kMaxRank));
  }
  if (largest > 0) sketch.registers_.assign(registers.begin(), registers.end());
  return sketch;
}

}  // namespace lockstep::domain
