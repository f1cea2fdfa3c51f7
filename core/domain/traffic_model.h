// Made-up traffic: what a fleet would report if its two sides behaved in a stated way. `lockstep gate
// simulate` asks with it how long a plan takes and what it would catch; tests/gate measures the gate by it.
//
// Requests arrive as a Poisson process, independently of each other save for what the model says of bursts,
// so that the numbers of requests of an arm, and of those in each bucket of its latency histogram, are
// independent Poisson variables. They are drawn exactly (inversion of tabulated distribution functions;
// inversion of the binomial for events among requests), not by a normal approximation. The same model, seed
// and calls give the same windows on the same platform.
#pragma once

#include <cstdint>
#include <map>
#include <memory>
#include <string>
#include <tuple>

#include "absl/status/status.h"
#include "absl/time/time.h"
#include "core/base/prng.h"
#include "core/domain/ladder.h"
#include "core/domain/window_stats.h"

namespace lockstep::domain {

// Whom the requests belong to.
enum class SubjectModel : uint8_t {
  kNone,         // reports name no subjects
  kEachAnother,  // every request is that of another subject
  kPopulation,   // any of TrafficModel::population subjects, each as likely as the other
};

// How the new side behaves. Rates are in [0, 1].
struct NewSideBehaviour {
  double error_rate = 0;           // of reads it serves, before the swing
  double latency_factor = 1;       // its median latency is so many times the old side's; > 0
  double mismatch_rate = 0;        // of comparisons
  double mirror_failure_rate = 0;  // of mirror writes; each is repaired within the next bucket
  bool operator==(const NewSideBehaviour&) const = default;
};

struct TrafficModel {
  double reads_per_second = 0;   // over all instances, in [0, kMaxPerSecond]
  double writes_per_second = 0;  // as reads_per_second
  // Of the reads, from SHADOW_READ on; in [0, 1].
  double comparison_share = 0;

  double error_rate = 0;  // of reads that the old side serves, before the swing
  // Log-normal latency of the old side, positive; zero: no durations are reported.
  absl::Duration latency_median = absl::ZeroDuration();
  double latency_sigma = 0.5;  // standard deviation of the logarithm, in (0, 3], on both sides

  // The new side before and from `onset` on, counted from the first window.
  NewSideBehaviour new_side_before_onset;
  NewSideBehaviour new_side;
  absl::Duration onset = absl::ZeroDuration();

  // The error rates of both sides rise together to so many times the stated ones, and fall again, once in
  // each period: multiplied by factor ^ ((1 - cos(2 pi t / period)) / 2). 1 = steady.
  double swing_factor = 1;
  absl::Duration swing_period = absl::Hours(1);

  // Errors and mismatches come in bursts within a window, of geometric length with this mean, at least 1;
  // a burst is one subject's, and rates stay as stated.
  double mean_burst = 1;
  SubjectModel subjects = SubjectModel::kEachAnother;
  uint64_t population = 100'000;  // kPopulation: > 0
  // Whether the subjects of errors and mismatches are named, or only their slots known.
  bool names_affected = true;

  // Backfill during DUAL_WRITE and later.
  uint64_t backfill_rows = 0;
  double backfill_rows_per_second = 0;

  // Mismatches are in this field of the contract; empty: in none that is declared.
  std::string mismatch_field;

  static constexpr double kMaxPerSecond = 1e6;
  bool operator==(const TrafficModel&) const = default;
};

// InvalidArgument naming the member that is out of range.
absl::Status ValidateTrafficModel(const TrafficModel& model);

// How a new side behaves that is as good as the old one and never differs.
NewSideBehaviour HealthyNewSide(const TrafficModel& model);

// One run of the model. Copyable; thread-compatible.
class TrafficSource {
 public:
  // `model` is valid.
  TrafficSource(const TrafficModel& model, uint64_t seed);

  // Starts another run from its first window. Cheaper than another source: it keeps its tables.
  void Restart(uint64_t seed);

  // The next 5 s (kTelemetryBucket), in a stage and, at CANARY_READ, with `read_weight` of kBucketCount keys
  // read from the new side.
  WindowStats Next(Stage stage, uint32_t read_weight);

  // From the start of the first window to that of the next one.
  absl::Duration elapsed() const { return elapsed_; }
  const TrafficModel& model() const { return model_; }

 private:
  class ArmTable;
  // Expected requests in a window, and the factor of the latency.
  using TableKey = std::tuple<double, double>;

  const ArmTable& TableOf(double expected_requests, double latency_factor);
  uint64_t NextSubject();
  uint64_t DrawEvents(uint64_t trials, double rate, SubjectTrials* trial_subjects, SubjectEvents* events);
  void AddReads(Arm arm, double share, double error_rate, double latency_factor, WindowStats* window);
  void AddComparisons(const NewSideBehaviour& side, double old_error_rate, double new_error_rate,
                      WindowStats* window);
  void AddWrites(const NewSideBehaviour& side, WindowStats* window);
  void AddBackfill(WindowStats* window);

  TrafficModel model_;
  Prng prng_;
  absl::Duration elapsed_ = absl::ZeroDuration();
  uint64_t subject_origin_ = 0;
  uint64_t subjects_drawn_ = 0;
  uint64_t repairs_due_ = 0;
  double rows_due_ = 0;  // fraction of a row that is carried over
  uint64_t rows_copied_ = 0;
  bool backfill_announced_ = false;
  // Shared by copies: tables don't change once they are made, and copies may be used on other threads only
  // because each copies the map itself.
  std::map<TableKey, std::shared_ptr<const ArmTable>> tables_;
};

}  // namespace lockstep::domain
