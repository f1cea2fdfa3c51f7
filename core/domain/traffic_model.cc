#include "core/domain/traffic_model.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "core/base/check.h"
#include "core/base/status_macros.h"
#include "core/domain/bucketing.h"
#include "core/domain/records.h"

namespace lockstep::domain {
namespace {

const double kWindowSeconds = absl::ToDoubleSeconds(kTelemetryBucket);

// The finaliser of SplitMix64: turns a counter into what looks like a hash of it.
uint64_t Mix(uint64_t x) {
  x += 0x9e3779b97f4a7c15u;
  x = (x ^ (x >> 30)) * 0xbf58476d1ce4e5b9u;
  x = (x ^ (x >> 27)) * 0x94d049bb133111ebu;
  return x ^ (x >> 31);
}

uint64_t AffectedId(uint64_t subject_hash) { return Mix(subject_hash ^ 0x6c62272e07bb0142u); }

double NormalCdf(double x) { return 0.5 * std::erfc(-x / std::sqrt(2.0)); }

// Poisson variables of one mean, by inversion: 64 random bits are compared with the distribution function in
// units of 2^-64, from a place that the first bits point at. What lies beyond probability 2^-64 never comes.
class PoissonTable {
 public:
  explicit PoissonTable(double mean) {
    if (mean <= 0) {
      below_.push_back(UINT64_MAX);
      return;
    }
    // Twelve standard deviations and some: less than 2^-64 lies outside on either side.
    const double reach = 12 * std::sqrt(mean) + 30;
    first_ = mean > reach ? static_cast<uint64_t>(mean - reach) : 0;
    const auto last = static_cast<uint64_t>(mean + reach);
    double sum = 0;
    for (uint64_t k = first_; k <= last; ++k) {
      sum +=
          std::exp(static_cast<double>(k) * std::log(mean) - mean - std::lgamma(static_cast<double>(k) + 1));
      const double scaled = std::ldexp(sum, 64);
      below_.push_back(scaled >= std::ldexp(1.0, 64) ? UINT64_MAX : static_cast<uint64_t>(scaled));
      if (below_.back() == UINT64_MAX) break;
    }
    below_.back() = UINT64_MAX;
    size_t at = 0;
    for (size_t i = 0; i < kGuides; ++i) {
      while (below_[at] <= uint64_t{i} << kGuideShift && at + 1 < below_.size()) ++at;
      guide_[i] = static_cast<uint32_t>(at);
    }
  }

  uint64_t Draw(uint64_t bits) const {
    size_t at = guide_[bits >> kGuideShift];
    while (bits >= below_[at] && at + 1 < below_.size()) ++at;
    return first_ + at;
  }

 private:
  static constexpr size_t kGuides = 64;
  static constexpr int kGuideShift = 58;

  uint64_t first_ = 0;
  std::vector<uint64_t> below_;  // 2^64 P(X <= first_ + i)
  std::array<uint32_t, kGuides> guide_ = {};
};

uint64_t DrawPoisson(double mean, Prng* prng) {
  // A sum of Poisson variables is one; each part's exp(-mean) is far from underflow.
  constexpr double kPart = 32;
  uint64_t count = 0;
  for (; mean > 0; mean -= kPart) {
    const double part = std::min(mean, kPart);
    double probability = std::exp(-part);
    double u = prng->Unit();
    for (uint64_t k = 1; u >= probability && probability > 0; ++k) {
      u -= probability;
      probability *= part / static_cast<double>(k);
      ++count;
    }
  }
  return count;
}

// Inversion from 0 upwards takes as many steps as there are events, so the rarer outcome is counted, in parts
// whose probability of no event is far from underflow.
uint64_t DrawBinomial(uint64_t trials, double rate, Prng* prng) {
  if (trials == 0 || rate <= 0) return 0;
  if (rate >= 1) return trials;
  if (rate > 0.5) return trials - DrawBinomial(trials, 1 - rate, prng);
  constexpr double kEventsInPart = 16;
  const auto part_trials = static_cast<uint64_t>(std::max(1.0, std::floor(kEventsInPart / rate)));
  const double odds = rate / (1 - rate);
  uint64_t events = 0;
  while (trials > 0) {
    const uint64_t part = std::min(trials, part_trials);
    trials -= part;
    double probability = std::exp(static_cast<double>(part) * std::log1p(-rate));
    double u = prng->Unit();
    for (uint64_t k = 0; k < part && u >= probability && probability > 0; ++k) {
      u -= probability;
      probability *= odds * static_cast<double>(part - k) / static_cast<double>(k + 1);
      ++events;
    }
  }
  return events;
}

// Length of a burst with this mean, at least 1.
uint64_t DrawBurst(double mean, Prng* prng) {
  if (mean <= 1) return 1;
  const double length = std::ceil(std::log1p(-prng->Unit()) / std::log1p(-1 / mean));
  return static_cast<uint64_t>(std::clamp(length, 1.0, 1e9));
}

absl::Status CheckRange(absl::string_view name, double value, double lowest, double highest) {
  if (value >= lowest && value <= highest) return absl::OkStatus();  // false for NaN
  return absl::InvalidArgumentError(
      absl::StrCat("traffic model: ", name, " is ", value, "; it has to be from ", lowest, " to ", highest));
}

absl::Status ValidateSide(absl::string_view name, const NewSideBehaviour& side) {
  LOCKSTEP_RETURN_IF_ERROR(CheckRange(absl::StrCat(name, ".error_rate"), side.error_rate, 0, 1));
  LOCKSTEP_RETURN_IF_ERROR(CheckRange(absl::StrCat(name, ".latency_factor"), side.latency_factor, 1e-3, 1e3));
  LOCKSTEP_RETURN_IF_ERROR(CheckRange(absl::StrCat(name, ".mismatch_rate"), side.mismatch_rate, 0, 1));
  return CheckRange(absl::StrCat(name, ".mirror_failure_rate"), side.mirror_failure_rate, 0, 1);
}

}  // namespace

absl::Status ValidateTrafficModel(const TrafficModel& model) {
  constexpr double kMax = TrafficModel::kMaxPerSecond;
  LOCKSTEP_RETURN_IF_ERROR(CheckRange("reads_per_second", model.reads_per_second, 0, kMax));
  LOCKSTEP_RETURN_IF_ERROR(CheckRange("writes_per_second", model.writes_per_second, 0, kMax));
  LOCKSTEP_RETURN_IF_ERROR(CheckRange("comparison_share", model.comparison_share, 0, 1));
  LOCKSTEP_RETURN_IF_ERROR(CheckRange("error_rate", model.error_rate, 0, 1));
  LOCKSTEP_RETURN_IF_ERROR(
      CheckRange("latency_median in seconds", absl::ToDoubleSeconds(model.latency_median), 0, 3600));
  LOCKSTEP_RETURN_IF_ERROR(CheckRange("latency_sigma", model.latency_sigma, 1e-3, 3));
  LOCKSTEP_RETURN_IF_ERROR(ValidateSide("new_side_before_onset", model.new_side_before_onset));
  LOCKSTEP_RETURN_IF_ERROR(ValidateSide("new_side", model.new_side));
  LOCKSTEP_RETURN_IF_ERROR(CheckRange("swing_factor", model.swing_factor, 1, 1e6));
  LOCKSTEP_RETURN_IF_ERROR(
      CheckRange("swing_period in seconds", absl::ToDoubleSeconds(model.swing_period), 1, 1e9));
  LOCKSTEP_RETURN_IF_ERROR(CheckRange("mean_burst", model.mean_burst, 1, 1e6));
  LOCKSTEP_RETURN_IF_ERROR(
      CheckRange("backfill_rows", static_cast<double>(model.backfill_rows), 0, std::ldexp(1.0, 53)));
  LOCKSTEP_RETURN_IF_ERROR(
      CheckRange("backfill_rows_per_second", model.backfill_rows_per_second, 0, std::ldexp(1.0, 40)));
  if (model.subjects == SubjectModel::kPopulation && model.population == 0) {
    return absl::InvalidArgumentError("traffic model: a population of 0 makes no requests");
  }
  return absl::OkStatus();
}

NewSideBehaviour HealthyNewSide(const TrafficModel& model) { return {.error_rate = model.error_rate}; }

// The requests of one arm in one window: how many there are in each bucket of the latency histogram or, where
// none are timed, in all.
class TrafficSource::ArmTable {
 public:
  // `median_ns` 0: none are timed.
  ArmTable(double expected, double median_ns, double sigma) {
    if (median_ns <= 0) {
      cells_.push_back({kUntimed, PoissonTable(expected)});
      return;
    }
    // P(duration <= upper edge of the bucket); the last bucket has everything else.
    const auto below = [&](size_t bucket) {
      if (bucket + 1 == LatencySketch::kBucketCount) return 1.0;
      return NormalCdf(std::log(static_cast<double>(LatencySketch::EdgeNanoseconds(bucket)) / median_ns) /
                       sigma);
    };
    double before = 0;
    for (size_t bucket = 0; bucket < LatencySketch::kBucketCount; ++bucket) {
      const double upto = below(bucket);
      // What is rarer than this goes to the next bucket that is not, so that probabilities sum to 1.
      if (upto - before < kNegligible && bucket + 1 < LatencySketch::kBucketCount) continue;
      if (upto > before) cells_.push_back({bucket, PoissonTable(expected * (upto - before))});
      before = upto;
      if (1 - upto < kNegligible) break;
    }
  }

  void Draw(Prng* prng, ArmStats* arm) const {
    uint64_t requests = 0;
    for (const Cell& cell : cells_) {
      const uint64_t count = cell.table.Draw(prng->Next());
      requests += count;
      if (cell.bucket != kUntimed) arm->latency.RecordBucket(cell.bucket, count);
    }
    arm->requests += requests;
  }

 private:
  static constexpr size_t kUntimed = LatencySketch::kBucketCount;
  static constexpr double kNegligible = 1e-12;
  struct Cell {
    size_t bucket;
    PoissonTable table;
  };
  std::vector<Cell> cells_;
};

TrafficSource::TrafficSource(const TrafficModel& model, uint64_t seed) : model_(model), prng_(seed) {
  LOCKSTEP_CHECK(ValidateTrafficModel(model).ok(), "the traffic model is valid");
  Restart(seed);
}

void TrafficSource::Restart(uint64_t seed) {
  prng_ = Prng(seed);
  elapsed_ = absl::ZeroDuration();
  subject_origin_ = prng_.Next();
  subjects_drawn_ = 0;
  repairs_due_ = 0;
  rows_due_ = 0;
  rows_copied_ = 0;
  backfill_announced_ = false;
}

const TrafficSource::ArmTable& TrafficSource::TableOf(double expected_requests, double latency_factor) {
  std::shared_ptr<const ArmTable>& table = tables_[{expected_requests, latency_factor}];
  if (table == nullptr) {
    const double median_ns = absl::ToDoubleNanoseconds(model_.latency_median) * latency_factor;
    table = std::make_shared<const ArmTable>(expected_requests, median_ns, model_.latency_sigma);
  }
  return *table;
}

uint64_t TrafficSource::NextSubject() {
  const uint64_t subject =
      model_.subjects == SubjectModel::kPopulation ? prng_.Below(model_.population) : subjects_drawn_++;
  return Mix(subject_origin_ + subject);
}

// Draws how many of the trials are events, and whose trials and events these are.
uint64_t TrafficSource::DrawEvents(uint64_t trials, double rate, SubjectTrials* trial_subjects,
                                   SubjectEvents* events) {
  const bool known = model_.subjects != SubjectModel::kNone;
  uint64_t total = 0;
  const auto add_burst = [&](uint64_t length) {
    total += length;
    if (!known) return;
    const uint64_t subject = NextSubject();
    for (uint64_t i = 0; i < length; ++i) trial_subjects->Record(subject);
    if (model_.names_affected) {
      for (uint64_t i = 0; i < length; ++i) events->Record(subject, AffectedId(subject));
    } else {
      events->slots.Add(SlotCounts::SlotOf(subject), length);
    }
  };
  if (model_.mean_burst > 1) {
    const double bursts = static_cast<double>(trials) * rate / model_.mean_burst;
    for (uint64_t i = DrawPoisson(bursts, &prng_); i > 0 && total < trials; --i) {
      add_burst(std::min(DrawBurst(model_.mean_burst, &prng_), trials - total));
    }
  } else {
    for (uint64_t i = DrawBinomial(trials, rate, &prng_); i > 0; --i) add_burst(1);
  }
  if (known) {
    for (uint64_t i = total; i < trials; ++i) trial_subjects->Record(NextSubject());
  }
  return total;
}

void TrafficSource::AddReads(Arm arm, double share, double error_rate, double latency_factor,
                             WindowStats* window) {
  if (share <= 0) return;
  ArmStats& stats = window->arm(arm);
  TableOf(model_.reads_per_second * share * kWindowSeconds, latency_factor).Draw(&prng_, &stats);
  const auto index = static_cast<size_t>(arm);
  stats.errors =
      DrawEvents(stats.requests, error_rate, &window->subjects.reads[index], &window->subjects.errors[index]);
}

void TrafficSource::AddComparisons(const NewSideBehaviour& side, double old_error_rate, double new_error_rate,
                                   WindowStats* window) {
  const uint64_t compared =
      DrawPoisson(model_.reads_per_second * model_.comparison_share * kWindowSeconds, &prng_);
  const auto draw_failures = [&](uint64_t trials, double rate, ComparisonOutcome outcome,
                                 SubjectEvents* subjects) {
    const uint64_t failed = DrawBinomial(trials, rate, &prng_);
    window->comparison(outcome) += failed;
    for (uint64_t i = 0; i < failed && model_.subjects != SubjectModel::kNone; ++i) {
      const uint64_t subject = NextSubject();
      if (model_.names_affected) {
        subjects->Record(subject, AffectedId(subject));
      } else {
        subjects->slots.Add(SlotCounts::SlotOf(subject), 1);
      }
    }
    return failed;
  };
  PairedErrors& paired = window->paired_errors;
  paired.new_only = draw_failures(compared, new_error_rate * (1 - old_error_rate),
                                  ComparisonOutcome::kErrorInNew, &window->subjects.new_failed_only);
  paired.old_only = draw_failures(compared - paired.new_only, old_error_rate * (1 - new_error_rate),
                                  ComparisonOutcome::kErrorInOld, &window->subjects.old_failed_only);
  const uint64_t comparable = compared - paired.new_only - paired.old_only;
  const uint64_t mismatches =
      DrawEvents(comparable, side.mismatch_rate, &window->subjects.compared, &window->subjects.mismatched);
  window->comparison(ComparisonOutcome::kMismatch) += mismatches;
  window->comparison(ComparisonOutcome::kMatch) += comparable - mismatches;
  if (!model_.mismatch_field.empty() && mismatches > 0) {
    FieldMismatches field;
    field[MismatchKind::kValue] = mismatches;
    const absl::Status added = window->AddFieldMismatches(model_.mismatch_field, field);
    LOCKSTEP_CHECK(added.ok(), "one window is far from the highest count");
  }
  if (model_.latency_median > absl::ZeroDuration()) {
    // ln(new / old) is normal with twice the variance.
    const double z = (std::log(side.latency_factor) - std::log(PairedLatency::kTolerance)) /
                     (model_.latency_sigma * std::sqrt(2.0));
    window->paired_latency.slower = DrawBinomial(comparable, NormalCdf(z), &prng_);
    window->paired_latency.not_slower = comparable - window->paired_latency.slower;
  }
}

void TrafficSource::AddWrites(const NewSideBehaviour& side, WindowStats* window) {
  const uint64_t writes = DrawPoisson(model_.writes_per_second * kWindowSeconds, &prng_);
  const uint64_t failed = DrawBinomial(writes, side.mirror_failure_rate, &prng_);
  window->writes.authoritative_ok = writes;
  window->writes.mirror_ok = writes - failed;
  window->writes.mirror_failed = failed;
  window->repairs.queued = failed;
  window->repairs.done = std::exchange(repairs_due_, failed);
}

void TrafficSource::AddBackfill(WindowStats* window) {
  if (!backfill_announced_) window->backfill.rows_to_copy = model_.backfill_rows;
  backfill_announced_ = true;
  rows_due_ += model_.backfill_rows_per_second * kWindowSeconds;
  const auto whole = static_cast<uint64_t>(rows_due_);
  rows_due_ -= static_cast<double>(whole);
  window->backfill.rows_copied = std::min(whole, model_.backfill_rows - rows_copied_);
  rows_copied_ += window->backfill.rows_copied;
}

WindowStats TrafficSource::Next(Stage stage, uint32_t read_weight) {
  const NewSideBehaviour& side = elapsed_ >= model_.onset ? model_.new_side : model_.new_side_before_onset;
  const double turns = absl::FDivDuration(elapsed_, model_.swing_period);
  const double swing = std::pow(model_.swing_factor, (1 - std::cos(2 * M_PI * turns)) / 2);
  const double old_error_rate = std::min(1.0, model_.error_rate * swing);
  const double new_error_rate = std::min(1.0, side.error_rate * swing);
  const LadderRow& row = LadderRowOf(stage);
  const double share = !row.may_serve_new            ? 0
                       : stage == Stage::kCanaryRead ? static_cast<double>(read_weight) / kBucketCount
                                                     : 1;
  WindowStats window;
  AddReads(Arm::kOld, 1 - share, old_error_rate, 1, &window);
  AddReads(Arm::kNew, share, new_error_rate, side.latency_factor, &window);
  if (row.compares) AddComparisons(side, old_error_rate, new_error_rate, &window);
  if (row.writes_old && row.writes_new) {
    AddWrites(side, &window);
    AddBackfill(&window);
  }
  elapsed_ += kTelemetryBucket;
  return window;
}

}  // namespace lockstep::domain
