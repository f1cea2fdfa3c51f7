// What an instance reports, and the server adds up, for one migration and one bucket (5 s) of event time.
//
// A WindowStats is a value. Merging is adding, so the sum does not depend on who reported first, how often
// batches were split, or where they were merged: Merge is associative and commutative, bit for bit.
//
// Consistency: what belongs to one request or one comparison (a comparison and its field mismatches, a read
// and its error and its latency) must be recorded in the same delta, or Validate() refuses the delta.
//
// Thread-compatible.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <map>
#include <string>

#include "absl/status/status.h"
#include "absl/strings/string_view.h"
#include "core/domain/latency_sketch.h"
#include "core/domain/subject_stats.h"

namespace lockstep::domain {

// The side that served a read.
enum class Arm : uint8_t { kOld, kNew };
inline constexpr size_t kArmCount = 2;

// How a comparison ended. Stored and sent as its number: append only.
enum class ComparisonOutcome : uint8_t {
  kMatch,
  kMismatch,      // both sides have the record, and it differs
  kMissingInNew,  // only the old side has it
  kMissingInOld,  // only the new side has it
  kErrorInOld,    // the old side could not be read, the new one could
  kErrorInNew,    // the new side could not be read, the old one could
  kTimeout,       // the shadow read did not end in time
  kRaced,         // the record was written meanwhile
  kLagged,        // equal after reading again
  kIgnored,       // differs only where the contract says that it may
};
inline constexpr size_t kComparisonOutcomeCount = 10;

// What an outcome is worth as evidence on mismatches.
enum class OutcomeKind : uint8_t {
  kClean,          // a trial without an event
  kMismatch,       // a trial with an event
  kNotComparable,  // no trial; its share has a budget of its own
};

struct ComparisonOutcomeInfo {
  ComparisonOutcome outcome;
  absl::string_view name;  // as in metric labels and JSON
  OutcomeKind kind;
};

// Every outcome, in the order of the enum.
inline constexpr std::array<ComparisonOutcomeInfo, kComparisonOutcomeCount> kComparisonOutcomes = {{
    {ComparisonOutcome::kMatch, "match", OutcomeKind::kClean},
    {ComparisonOutcome::kMismatch, "mismatch", OutcomeKind::kMismatch},
    {ComparisonOutcome::kMissingInNew, "missing_in_new", OutcomeKind::kMismatch},
    {ComparisonOutcome::kMissingInOld, "missing_in_old", OutcomeKind::kMismatch},
    {ComparisonOutcome::kErrorInOld, "error_in_old", OutcomeKind::kNotComparable},
    {ComparisonOutcome::kErrorInNew, "error_in_new", OutcomeKind::kNotComparable},
    {ComparisonOutcome::kTimeout, "timeout", OutcomeKind::kNotComparable},
    {ComparisonOutcome::kRaced, "raced", OutcomeKind::kNotComparable},
    {ComparisonOutcome::kLagged, "lagged", OutcomeKind::kClean},
    {ComparisonOutcome::kIgnored, "ignored", OutcomeKind::kClean},
}};

constexpr const ComparisonOutcomeInfo& InfoOf(ComparisonOutcome outcome) {
  return kComparisonOutcomes[static_cast<size_t>(outcome)];
}

// How one field differs. Stored and sent as its number: append only.
enum class MismatchKind : uint8_t { kValue, kType, kMissing, kExtra, kOrder };
inline constexpr size_t kMismatchKindCount = 5;

absl::string_view ArmName(Arm arm);                     // "old", "new"
absl::string_view MismatchKindName(MismatchKind kind);  // "value", "type", "missing", "extra", "order"

// Reads served by one arm.
struct ArmStats {
  uint64_t requests = 0;
  uint64_t errors = 0;    // the serving side failed; <= requests
  LatencySketch latency;  // of the serving side; at most one duration for each request

  bool operator==(const ArmStats&) const = default;
};

// Writes, counted when the side in question has answered, so a mirror may fall into a later bucket than its
// write.
struct WriteStats {
  uint64_t authoritative_ok = 0;
  uint64_t authoritative_failed = 0;
  uint64_t mirror_ok = 0;
  uint64_t mirror_failed = 0;
  uint64_t mirror_shed = 0;  // not attempted: breaker, cap or queue

  uint64_t mirror_attempts() const { return mirror_ok + mirror_failed + mirror_shed; }
  bool operator==(const WriteStats&) const = default;
};

// Comparisons of which exactly one side failed, for the paired test (rate_evidence.h).
struct PairedErrors {
  uint64_t new_only = 0;  // b
  uint64_t old_only = 0;  // c

  bool operator==(const PairedErrors&) const = default;
};

// Pairs of reads of one record, one from each side, in random order, both timed. Ties count as neither.
struct PairedLatency {
  // New takes up to this many times as long as old before a pair counts as slower.
  static constexpr double kTolerance = 1.1;

  uint64_t slower = 0;      // new took more than kTolerance times as long as old
  uint64_t not_slower = 0;  // less than that

  bool operator==(const PairedLatency&) const = default;
};

// Mirror writes that failed and were queued for repair, and repairs that were done. The difference is what is
// outstanding; a repair that was lost with its process stays outstanding, because its record is still wrong.
struct RepairStats {
  uint64_t queued = 0;
  uint64_t done = 0;

  bool operator==(const RepairStats&) const = default;
};

// What backfill workers have taken on, each row once, and what they have copied of it.
struct BackfillStats {
  uint64_t rows_to_copy = 0;
  uint64_t rows_copied = 0;

  bool operator==(const BackfillStats&) const = default;
};

// Whom the other counts concern, as far as that is known.
struct SubjectStats {
  std::array<SubjectTrials, kArmCount> reads;   // by arm
  std::array<SubjectEvents, kArmCount> errors;  // by arm
  SubjectTrials compared;                       // comparable comparisons
  SubjectEvents mismatched;                     // comparisons of kind kMismatch
  SubjectEvents new_failed_only;                // paired_errors.new_only
  SubjectEvents old_failed_only;                // paired_errors.old_only

  bool operator==(const SubjectStats&) const = default;
};

// What was not measured, or measured and lost. Loss is never read as clean.
struct DroppedStats {
  uint64_t comparisons_shed = 0;
  uint64_t telemetry_dropped = 0;
  uint64_t samples_dropped = 0;

  bool operator==(const DroppedStats&) const = default;
};

// Mismatches of one field, by kind.
struct FieldMismatches {
  std::array<uint64_t, kMismatchKindCount> by_kind = {};

  uint64_t& operator[](MismatchKind kind) { return by_kind[static_cast<size_t>(kind)]; }
  uint64_t operator[](MismatchKind kind) const { return by_kind[static_cast<size_t>(kind)]; }
  uint64_t total() const;
  bool operator==(const FieldMismatches&) const = default;
};

class WindowStats {
 public:
  static constexpr size_t kMaxFields = 64;
  // Holds the sum of the fields beyond kMaxFields; does not count among them.
  static constexpr absl::string_view kOtherFields = "_other";
  using FieldMap = std::map<std::string, FieldMismatches, std::less<>>;

  ArmStats& arm(Arm arm) { return arms[static_cast<size_t>(arm)]; }
  const ArmStats& arm(Arm arm) const { return arms[static_cast<size_t>(arm)]; }
  uint64_t& comparison(ComparisonOutcome outcome) { return comparisons[static_cast<size_t>(outcome)]; }
  uint64_t comparison(ComparisonOutcome outcome) const { return comparisons[static_cast<size_t>(outcome)]; }

  // Counts mismatches of a declared field: one for each comparison with outcome kMismatch in which it
  // differs, of the kind that describes it best. At most kMaxFields names are kept: the first in byte order,
  // because that choice gives the same result in whatever order fields and windows arrive. The others go to
  // kOtherFields. OutOfRange if a count would pass kMaxCount.
  absl::Status AddFieldMismatches(absl::string_view field, const FieldMismatches& counts);
  const FieldMap& fields() const { return fields_; }

  uint64_t CountOf(OutcomeKind kind) const;
  // All comparisons that ended, comparable or not.
  uint64_t compared() const;
  // The trials and events of the mismatch rate: comparable = clean + mismatches.
  uint64_t comparable() const { return CountOf(OutcomeKind::kClean) + CountOf(OutcomeKind::kMismatch); }
  uint64_t mismatches() const { return CountOf(OutcomeKind::kMismatch); }
  uint64_t not_comparable() const { return CountOf(OutcomeKind::kNotComparable); }

  // Adds every count of `other`. OutOfRange, naming the counter, if one would pass kMaxCount (log_math.h);
  // nothing is changed then.
  absl::Status Merge(const WindowStats& other);

  // InvalidArgument for counts that cannot be, naming both of them; OutOfRange for one above kMaxCount.
  // Whatever comes from outside is validated before it is merged; sums of valid windows are valid.
  absl::Status Validate() const;

  bool operator==(const WindowStats&) const = default;

  std::array<ArmStats, kArmCount> arms;
  WriteStats writes;
  std::array<uint64_t, kComparisonOutcomeCount> comparisons = {};
  PairedErrors paired_errors;
  PairedLatency paired_latency;
  RepairStats repairs;
  BackfillStats backfill;
  DroppedStats dropped;
  SubjectStats subjects;

 private:
  absl::Status ValidateFields() const;
  absl::Status ValidateSubjects() const;

  FieldMap fields_;
};

}  // namespace lockstep::domain
