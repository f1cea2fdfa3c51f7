// Which ids a user population reads: Zipf-distributed ranks over a shuffled id space, from a seed.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <vector>

#include "core/base/check.h"
#include "core/base/prng.h"

namespace lockstep::examples {

// P(rank k) is proportional to 1 / k^exponent for k = 1..n. Not thread-safe.
class ZipfIds {
 public:
  // Ids are 1..n; n >= 1. Two generators with one `population_seed` agree on which ids are popular.
  ZipfIds(int64_t n, double exponent, uint64_t population_seed, uint64_t seed) : prng_(seed) {
    LOCKSTEP_CHECK(n >= 1, "there must be ids to draw from");
    cumulative_.reserve(static_cast<size_t>(n));
    ids_.reserve(static_cast<size_t>(n));
    double sum = 0;
    for (int64_t k = 1; k <= n; ++k) {
      sum += std::pow(static_cast<double>(k), -exponent);
      cumulative_.push_back(sum);
      ids_.push_back(k);
    }
    Prng population(population_seed);
    for (size_t i = ids_.size() - 1; i > 0; --i) std::swap(ids_[i], ids_[population.Below(i + 1)]);
  }

  int64_t Next() {
    const double at = prng_.Unit() * cumulative_.back();
    const auto rank = std::upper_bound(cumulative_.begin(), cumulative_.end() - 1, at) - cumulative_.begin();
    return ids_[static_cast<size_t>(rank)];
  }

 private:
  Prng prng_;
  std::vector<double> cumulative_;
  std::vector<int64_t> ids_;  // by rank
};

}  // namespace lockstep::examples
