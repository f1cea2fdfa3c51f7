#include "core/domain/window_stats.h"

#include <iterator>
#include <numeric>
#include <type_traits>
#include <utility>

#include "absl/strings/str_cat.h"
#include "core/base/check.h"
#include "core/base/status_macros.h"
#include "core/domain/log_math.h"

namespace lockstep::domain {
namespace {

// True if the table's rows stand in the order of the enum, which InfoOf relies on.
constexpr bool IsInEnumOrder() {
  for (size_t i = 0; i < kComparisonOutcomes.size(); ++i) {
    if (static_cast<size_t>(kComparisonOutcomes[i].outcome) != i) return false;
  }
  return true;
}
static_assert(IsInEnumOrder());

constexpr size_t kCounterCount = 2 * kArmCount + 5 + kComparisonOutcomeCount + 2 + 2 + 2 + 2 + 3;

template <typename Stats>
struct NamedCounter {
  absl::string_view name;
  decltype(&std::declval<Stats&>().writes.mirror_ok) value = nullptr;
};

// The one list of plain counters, for a const or mutable window. Sketches, fields and subjects are handled
// beside it.
template <typename Stats>
std::array<NamedCounter<Stats>, kCounterCount> CountersOf(Stats& stats) {
  std::array<NamedCounter<Stats>, kCounterCount> counters = {{
      {"old arm: requests", &stats.arm(Arm::kOld).requests},
      {"old arm: errors", &stats.arm(Arm::kOld).errors},
      {"new arm: requests", &stats.arm(Arm::kNew).requests},
      {"new arm: errors", &stats.arm(Arm::kNew).errors},
      {"writes: authoritative_ok", &stats.writes.authoritative_ok},
      {"writes: authoritative_failed", &stats.writes.authoritative_failed},
      {"writes: mirror_ok", &stats.writes.mirror_ok},
      {"writes: mirror_failed", &stats.writes.mirror_failed},
      {"writes: mirror_shed", &stats.writes.mirror_shed},
      {"paired errors: new_only", &stats.paired_errors.new_only},
      {"paired errors: old_only", &stats.paired_errors.old_only},
      {"paired latency: slower", &stats.paired_latency.slower},
      {"paired latency: not_slower", &stats.paired_latency.not_slower},
      {"repairs: queued", &stats.repairs.queued},
      {"repairs: done", &stats.repairs.done},
      {"backfill: rows_to_copy", &stats.backfill.rows_to_copy},
      {"backfill: rows_copied", &stats.backfill.rows_copied},
      {"dropped: comparisons_shed", &stats.dropped.comparisons_shed},
      {"dropped: telemetry_dropped", &stats.dropped.telemetry_dropped},
      {"dropped: samples_dropped", &stats.dropped.samples_dropped},
  }};
  for (size_t i = 0; i < kComparisonOutcomeCount; ++i) {
    counters[kCounterCount - kComparisonOutcomeCount + i] = {kComparisonOutcomes[i].name,
                                                             &stats.comparisons[i]};
  }
  return counters;
}

// The subjects of some observations, and how many of these the window has.
template <typename Subjects>
struct NamedSubjects {
  absl::string_view observations;
  Subjects* subjects = nullptr;
  uint64_t count = 0;
};

template <typename Stats>
auto TrialsOf(Stats& stats) {
  using Subjects = std::remove_reference_t<decltype((stats.subjects.compared))>;
  auto& reads = stats.subjects.reads;
  return std::array<NamedSubjects<Subjects>, kArmCount + 1>{{
      {"old arm: requests", &reads[static_cast<size_t>(Arm::kOld)], stats.arm(Arm::kOld).requests},
      {"new arm: requests", &reads[static_cast<size_t>(Arm::kNew)], stats.arm(Arm::kNew).requests},
      {"comparable comparisons", &stats.subjects.compared, stats.comparable()},
  }};
}

template <typename Stats>
auto EventsOf(Stats& stats) {
  using Subjects = std::remove_reference_t<decltype((stats.subjects.mismatched))>;
  auto& errors = stats.subjects.errors;
  return std::array<NamedSubjects<Subjects>, kArmCount + 3>{{
      {"old arm: errors", &errors[static_cast<size_t>(Arm::kOld)], stats.arm(Arm::kOld).errors},
      {"new arm: errors", &errors[static_cast<size_t>(Arm::kNew)], stats.arm(Arm::kNew).errors},
      {"mismatches", &stats.subjects.mismatched, stats.mismatches()},
      {"paired errors: new_only", &stats.subjects.new_failed_only, stats.paired_errors.new_only},
      {"paired errors: old_only", &stats.subjects.old_failed_only, stats.paired_errors.old_only},
  }};
}

// As CheckSum for every slot; the names are put together for a failure only.
absl::Status CheckSlotSums(absl::string_view observations, const SlotCounts& a, const SlotCounts& b) {
  if (a.empty() && b.empty()) return absl::OkStatus();
  for (size_t i = 0; i < SlotCounts::kSlots; ++i) {
    if (a[i] <= kMaxCount && b[i] <= kMaxCount - a[i]) continue;
    return CheckSum(absl::StrCat(observations, " with a subject, slot ", i), a[i], b[i]);
  }
  return absl::OkStatus();
}

absl::Status CheckAffectedSums(absl::string_view observations, const SubjectEvents& a,
                               const SubjectEvents& b) {
  for (const auto& [id, events] : b.affected()) {
    const auto found = a.affected().find(id);
    const uint64_t before = found == a.affected().end() ? 0 : found->second;
    if (before <= kMaxCount && events <= kMaxCount - before) continue;
    return CheckSum(absl::StrCat(observations, " of one affected subject"), before, events);
  }
  return absl::OkStatus();
}

absl::Status CheckSubjectSums(const WindowStats& a, const WindowStats& b) {
  const auto trials = TrialsOf(a), other_trials = TrialsOf(b);
  for (size_t i = 0; i < trials.size(); ++i) {
    LOCKSTEP_RETURN_IF_ERROR(
        CheckSlotSums(trials[i].observations, trials[i].subjects->slots, other_trials[i].subjects->slots));
  }
  const auto events = EventsOf(a), other_events = EventsOf(b);
  for (size_t i = 0; i < events.size(); ++i) {
    LOCKSTEP_RETURN_IF_ERROR(
        CheckSlotSums(events[i].observations, events[i].subjects->slots, other_events[i].subjects->slots));
    LOCKSTEP_RETURN_IF_ERROR(
        CheckAffectedSums(events[i].observations, *events[i].subjects, *other_events[i].subjects));
  }
  return absl::OkStatus();
}

void MergeSubjects(WindowStats& into, const WindowStats& other) {
  const auto trials = TrialsOf(into);
  const auto other_trials = TrialsOf(other);
  for (size_t i = 0; i < trials.size(); ++i) trials[i].subjects->Merge(*other_trials[i].subjects);
  const auto events = EventsOf(into);
  const auto other_events = EventsOf(other);
  for (size_t i = 0; i < events.size(); ++i) events[i].subjects->Merge(*other_events[i].subjects);
}

absl::Status Impossible(absl::string_view part, uint64_t part_count, absl::string_view whole,
                        uint64_t whole_count) {
  return absl::InvalidArgumentError(absl::StrCat("window counts that cannot be: ", part, " = ", part_count,
                                                 " is more than ", whole, " = ", whole_count));
}

// As CheckSum. Fields have names to be put together, which is done for a failure only.
absl::Status CheckFieldSum(absl::string_view field, uint64_t a, uint64_t b) {
  if (a <= kMaxCount && b <= kMaxCount - a) return absl::OkStatus();
  return CheckSum(absl::StrCat("mismatches of field '", field, "'"), a, b);
}

absl::Status MergeField(absl::string_view field, const FieldMismatches& counts, FieldMismatches& into) {
  for (size_t i = 0; i < kMismatchKindCount; ++i) {
    LOCKSTEP_RETURN_IF_ERROR(CheckFieldSum(field, into.by_kind[i], counts.by_kind[i]));
    into.by_kind[i] += counts.by_kind[i];
  }
  return absl::OkStatus();
}

// Adds to the field's own entry, and moves the last name to kOtherFields when there are too many. A name that
// is among the first kMaxFields of the whole is among them in every part, so no part ever folds it away.
absl::Status AddField(absl::string_view field, const FieldMismatches& counts, WindowStats::FieldMap& fields) {
  LOCKSTEP_RETURN_IF_ERROR(MergeField(field, counts, fields[std::string(field)]));
  const bool has_other = fields.contains(WindowStats::kOtherFields);
  if (fields.size() - (has_other ? 1 : 0) <= WindowStats::kMaxFields) return absl::OkStatus();
  auto last = std::prev(fields.end());
  if (last->first == WindowStats::kOtherFields) --last;
  const FieldMismatches folded = last->second;
  fields.erase(last);
  return MergeField(WindowStats::kOtherFields, folded, fields[std::string(WindowStats::kOtherFields)]);
}

}  // namespace

absl::string_view ArmName(Arm arm) {
  switch (arm) {
    case Arm::kOld:
      return "old";
    case Arm::kNew:
      return "new";
  }
  LOCKSTEP_CHECK(false, "no such arm");
}

absl::string_view MismatchKindName(MismatchKind kind) {
  switch (kind) {
    case MismatchKind::kValue:
      return "value";
    case MismatchKind::kType:
      return "type";
    case MismatchKind::kMissing:
      return "missing";
    case MismatchKind::kExtra:
      return "extra";
    case MismatchKind::kOrder:
      return "order";
  }
  LOCKSTEP_CHECK(false, "no such mismatch kind");
}

uint64_t FieldMismatches::total() const {
  return std::accumulate(by_kind.begin(), by_kind.end(), uint64_t{0});
}

absl::Status WindowStats::AddFieldMismatches(absl::string_view field, const FieldMismatches& counts) {
  // Not total() == 0, to which counts from outside may wrap around.
  if (counts == FieldMismatches()) return absl::OkStatus();
  return AddField(field, counts, fields_);
}

uint64_t WindowStats::CountOf(OutcomeKind kind) const {
  uint64_t count = 0;
  for (const ComparisonOutcomeInfo& info : kComparisonOutcomes) {
    if (info.kind == kind) count += comparison(info.outcome);
  }
  return count;
}

uint64_t WindowStats::compared() const {
  return std::accumulate(comparisons.begin(), comparisons.end(), uint64_t{0});
}

absl::Status WindowStats::Merge(const WindowStats& other) {
  const auto counters = CountersOf(*this);
  const auto other_counters = CountersOf(other);
  // Everything that can fail comes first, so that a refused merge changes nothing.
  for (size_t i = 0; i < kCounterCount; ++i) {
    LOCKSTEP_RETURN_IF_ERROR(CheckSum(counters[i].name, *counters[i].value, *other_counters[i].value));
  }
  for (size_t i = 0; i < kArmCount; ++i) {
    const uint64_t count = arms[i].latency.count(), other_count = other.arms[i].latency.count();
    if (count <= kMaxCount && other_count <= kMaxCount - count) continue;
    return CheckSum(absl::StrCat(ArmName(static_cast<Arm>(i)), " arm: latencies"), count, other_count);
  }
  LOCKSTEP_RETURN_IF_ERROR(CheckSubjectSums(*this, other));
  if (!other.fields_.empty()) {
    FieldMap merged = fields_;
    for (const auto& [field, counts] : other.fields_) {
      LOCKSTEP_RETURN_IF_ERROR(AddField(field, counts, merged));
    }
    fields_ = std::move(merged);
  }
  for (size_t i = 0; i < kCounterCount; ++i) *counters[i].value += *other_counters[i].value;
  for (size_t i = 0; i < kArmCount; ++i) {
    const absl::Status merged = arms[i].latency.Merge(other.arms[i].latency);
    LOCKSTEP_CHECK(merged.ok(), "the total was checked above");
  }
  MergeSubjects(*this, other);
  return absl::OkStatus();
}

absl::Status WindowStats::Validate() const {
  for (const auto& counter : CountersOf(*this)) {
    LOCKSTEP_RETURN_IF_ERROR(CheckSum(counter.name, *counter.value, 0));
  }
  for (Arm side : {Arm::kOld, Arm::kNew}) {
    const ArmStats& stats = arm(side);
    const std::string requests = absl::StrCat(ArmName(side), " arm: requests");
    if (stats.errors > stats.requests) {
      return Impossible(absl::StrCat(ArmName(side), " arm: errors"), stats.errors, requests, stats.requests);
    }
    if (stats.latency.count() > stats.requests) {
      return Impossible(absl::StrCat(ArmName(side), " arm: latencies"), stats.latency.count(), requests,
                        stats.requests);
    }
  }
  const uint64_t paired = paired_errors.new_only + paired_errors.old_only;
  if (paired > compared()) {
    return Impossible("paired errors (new_only + old_only)", paired, "comparisons", compared());
  }
  const uint64_t timed = paired_latency.slower + paired_latency.not_slower;
  if (timed > compared()) {
    return Impossible("paired latencies (slower + not_slower)", timed, "comparisons", compared());
  }
  LOCKSTEP_RETURN_IF_ERROR(ValidateSubjects());
  return ValidateFields();
}

absl::Status WindowStats::ValidateSubjects() const {
  // Also sees to it that no sum below wraps around.
  LOCKSTEP_RETURN_IF_ERROR(CheckSubjectSums(WindowStats(), *this));
  const auto check = [](absl::string_view name, absl::string_view kind, uint64_t part, uint64_t count) {
    if (part <= count) return absl::OkStatus();
    return Impossible(absl::StrCat(name, kind), part, name, count);
  };
  for (const auto& [name, trials, count] : TrialsOf(*this)) {
    const uint64_t known = trials->slots.total();
    LOCKSTEP_RETURN_IF_ERROR(check(name, " with a subject", known, count));
    // Each observation sets at most one register.
    const uint64_t hit = trials->distinct.hit_registers();
    if (hit > known) {
      return Impossible(absl::StrCat(name, ": registers set by a subject"), hit,
                        absl::StrCat(name, " with a subject"), known);
    }
  }
  for (const auto& [name, events, count] : EventsOf(*this)) {
    LOCKSTEP_RETURN_IF_ERROR(check(name, " with a subject", events->slots.total(), count));
    LOCKSTEP_RETURN_IF_ERROR(check(name, " of affected subjects", events->identified(), count));
  }
  return absl::OkStatus();
}

absl::Status WindowStats::ValidateFields() const {
  const uint64_t allowed = comparison(ComparisonOutcome::kMismatch);
  for (const auto& [field, counts] : fields_) {
    for (uint64_t count : counts.by_kind) LOCKSTEP_RETURN_IF_ERROR(CheckFieldSum(field, count, 0));
    // One comparison may add several to the fields folded together, but only if it is a mismatch.
    if (field == kOtherFields ? allowed == 0 && counts.total() > 0 : counts.total() > allowed) {
      return Impossible(absl::StrCat("mismatches of field '", field, "'"), counts.total(),
                        "comparisons with outcome 'mismatch'", allowed);
    }
  }
  return absl::OkStatus();
}

}  // namespace lockstep::domain
