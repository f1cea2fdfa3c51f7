// The check of one record of a held slice (MirrorPath notes it, SliceChecker runs it).
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "core/base/status_macros.h"
#include "lockstep/internal/mirror_path.h"

namespace lockstep::internal {
namespace {

using domain::Side;

struct Pair {
  SideRow source;  // what is right
  SideRow target;  // what must be equal
};

RecordCheckResult Differs(absl::string_view why) { return {RecordCheck::kDiffers, std::string(why)}; }

RecordCheckResult Unchecked(const absl::Status& status) {
  return {RecordCheck::kUnchecked, absl::StrCat("could not be compared: ", status.message())};
}

class Check {
 public:
  Check(Client& client, const RouteHandle& route, const MirrorWrite& write, const RecordAccess& record,
        absl::Duration timeout)
      : client_(client), route_(route), write_(write), record_(record), timeout_(timeout) {}

  RecordCheckResult Run(bool repair) {
    absl::StatusOr<Pair> pair = Read();
    if (!pair.ok()) return Unchecked(pair.status());
    std::string difference = DifferenceOf(*pair);
    if (difference.empty()) return {};
    if (!repair) return Differs(difference);
    const SideRow before = pair->source;
    if (const absl::Status status = Repair(); !status.ok()) {
      const std::string why = absl::StrCat(difference, ", and it could not be repaired: ", status.message());
      // What new lacks, or doesn't answer for, is no reason against the way back to old.
      if (source_ == Side::kOld && OutcomeUnknown(status)) return {RecordCheck::kUnchecked, why};
      return Differs(why);
    }
    pair = Read();
    if (!pair.ok()) return Unchecked(pair.status());
    difference = DifferenceOf(*pair);
    if (difference.empty()) return {RecordCheck::kRepaired, ""};
    // Another instance is writing it, which has noted it as well and will check it when it is done.
    if (!(pair->source == before)) return {};
    return Differs(absl::StrCat(difference, ", also after a repair"));
  }

 private:
  // The mirror first: if it catches up in between, that is no difference. With versions on both sides the
  // newer one is right, whichever was authoritative when this instance wrote last; others may have written
  // since.
  absl::StatusOr<Pair> Read() {
    const absl::Time deadline = client_.clock().Now() + timeout_;
    const auto row = [&](Side side) {
      return record_.Row({route_.epoch(), side, ReadPurpose::kRepair, deadline});
    };
    source_ = write_.authoritative;
    Pair pair;
    LOCKSTEP_ASSIGN_OR_RETURN(pair.target, row(write_.mirror()));
    LOCKSTEP_ASSIGN_OR_RETURN(pair.source, row(write_.authoritative));
    if (pair.source.version.has_value() && pair.target.version.has_value() &&
        *pair.target.version > *pair.source.version) {
      std::swap(pair.source, pair.target);
      source_ = write_.mirror();
    }
    return pair;
  }

  // Empty: none.
  std::string DifferenceOf(const Pair& pair) const {
    if (pair.source.version.has_value() && pair.target.version.has_value() &&
        *pair.source.version != *pair.target.version) {
      return absl::StrCat("the ", domain::SideName(source_), " side has version ", *pair.source.version,
                          ", the ", domain::SideName(OtherSide(source_)), " side ", *pair.target.version);
    }
    const RecordView* const source = pair.source.fields.has_value() ? &*pair.source.fields : nullptr;
    const RecordView* const target = pair.target.fields.has_value() ? &*pair.target.fields : nullptr;
    const bool old_is_source = source_ == Side::kOld;
    const Comparison comparison =
        CompareRecords(old_is_source ? source : target, old_is_source ? target : source, route_.contract());
    if (comparison.outcome == domain::ComparisonOutcome::kMatch ||
        comparison.outcome == domain::ComparisonOutcome::kIgnored) {
      return "";
    }
    if (comparison.differences.empty()) {
      return absl::StrCat("the ", domain::SideName(source == nullptr ? source_ : OtherSide(source_)),
                          " side has no such record");
    }
    return absl::StrCat(
        "differing fields: ",
        absl::StrJoin(comparison.differences, ", ", [](std::string* out, const FieldDifference& field) {
          absl::StrAppend(out, field.path);
        }));
  }

  absl::Status Repair() {
    const Side target = OtherSide(source_);
    if (!record_.HasCurrent(source_) || !record_.HasMirror(target)) {
      const bool old_is_source = source_ == Side::kOld;
      return absl::FailedPreconditionError(absl::StrCat(
          "the Migrator was built without ", !record_.HasCurrent(source_)
                                                 ? (old_is_source ? "CurrentOld" : "CurrentNew")
                                                 : (old_is_source ? "MirrorToNew" : "MirrorToOld")));
    }
    LOCKSTEP_ASSIGN_OR_RETURN(const absl::Time deadline,
                              client_.MayWriteUntil(client_.clock().Now() + timeout_, &route_));
    const ReadContext from{route_.epoch(), source_, ReadPurpose::kRepair, deadline};
    const WriteContext to{.epoch = route_.epoch(),
                          .side = target,
                          .idempotency_key = client_.NextIdempotencyKey(),
                          .deadline = deadline};
    const CopyResult copy = record_.MirrorCurrent(from, to);
    return copy.read.ok() ? copy.mirrored : copy.read;
  }

  Client& client_;
  const RouteHandle& route_;
  const MirrorWrite& write_;
  const RecordAccess& record_;
  const absl::Duration timeout_;
  Side source_ = Side::kOld;
};

}  // namespace

RecordCheckResult CheckRecord(Client& client, MigrationHandle migration, const MirrorWrite& write,
                              const RecordAccess& record, absl::Duration timeout, bool repair) {
  const absl::StatusOr<RouteHandle> route = client.Route(migration, write.routing_key);
  if (!route.ok()) return Unchecked(route.status());
  if (route->generation() != write.attribution.generation) return {};  // another life: that mirror is gone
  return Check(client, *route, write, record, timeout).Run(repair);
}

}  // namespace lockstep::internal
