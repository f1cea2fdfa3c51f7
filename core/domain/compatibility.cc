#include "core/domain/compatibility.h"

#include <algorithm>
#include <array>

#include "absl/strings/str_cat.h"
#include "core/base/check.h"

namespace lockstep::domain {
namespace {

// The anomaly that keeps two modes apart, the gravest first where the matrix of semantics.md names several.
// kNone: they may coexist; `a` between OFF and DUAL is latent (rows of new that nobody reads yet) and removed
// by the backfill, which starts only when no OFF instance is left.
enum class Anomaly : uint8_t {
  kNone,
  kVoidEvidence,  // b (and a: stale rows)
  kLostUpdate,    // c
  kDivergence,    // d
  kNewOnlyWrite,  // e
  kOldSideGone,   // g
  kNoWayBack,     // h
};

constexpr Anomaly ok = Anomaly::kNone;
constexpr Anomaly b = Anomaly::kVoidEvidence;
constexpr Anomaly c = Anomaly::kLostUpdate;
constexpr Anomaly d = Anomaly::kDivergence;
constexpr Anomaly e = Anomaly::kNewOnlyWrite;
constexpr Anomaly g = Anomaly::kOldSideGone;
constexpr Anomaly h = Anomaly::kNoWayBack;

// semantics.md section 3, completed by symmetry.
constexpr Anomaly kMatrix[kBucketModeCount][kBucketModeCount] = {
    //             OFF DUAL SHADOW CANARY DRAIN CUTOVER NEW_ONLY COMPLETE
    /* OFF      */ {ok, ok, b, c, c, d, e, g},
    /* DUAL     */ {ok, ok, ok, ok, ok, d, e, g},
    /* SHADOW   */ {b, ok, ok, ok, ok, d, e, g},
    /* CANARY   */ {c, ok, ok, ok, ok, d, e, g},
    /* DRAIN    */ {c, ok, ok, ok, ok, ok, h, g},
    /* CUTOVER  */ {d, d, d, d, ok, ok, ok, g},
    /* NEW_ONLY */ {e, e, e, e, h, ok, ok, ok},
    /* COMPLETE */ {g, g, g, g, g, g, ok, ok},
};

constexpr bool IsSymmetric() {
  for (int i = 0; i < kBucketModeCount; ++i) {
    for (int j = 0; j < i; ++j) {
      if (kMatrix[i][j] != kMatrix[j][i]) return false;
    }
  }
  return true;
}
static_assert(IsSymmetric());

Anomaly AnomalyOf(BucketMode x, BucketMode y) { return kMatrix[static_cast<int>(x)][static_cast<int>(y)]; }

}  // namespace

absl::string_view BucketModeName(BucketMode mode) {
  switch (mode) {
    case BucketMode::kOff:
      return "OFF";
    case BucketMode::kDual:
      return "DUAL";
    case BucketMode::kShadow:
      return "SHADOW";
    case BucketMode::kCanary:
      return "CANARY";
    case BucketMode::kDrain:
      return "DRAIN";
    case BucketMode::kCutover:
      return "CUTOVER";
    case BucketMode::kNewOnly:
      return "NEW_ONLY";
    case BucketMode::kComplete:
      return "COMPLETE";
  }
  return "";
}

BucketMode ModeOfBucket(const RoutingState& state, uint32_t bucket) {
  switch (state.stage) {
    case Stage::kOff:
      return BucketMode::kOff;
    case Stage::kDualWrite:
      return BucketMode::kDual;
    case Stage::kShadowRead:
      return BucketMode::kShadow;
    case Stage::kCanaryRead:
      return BucketMode::kCanary;
    case Stage::kCutover:
      if (bucket < state.write_weight) return BucketMode::kCutover;
      return bucket < state.drain_weight ? BucketMode::kDrain : BucketMode::kCanary;
    case Stage::kNewOnly:
      return BucketMode::kNewOnly;
    case Stage::kComplete:
      return BucketMode::kComplete;
  }
  LOCKSTEP_CHECK(false, "not an enumerator of Stage");
  return BucketMode::kOff;
}

bool MayCoexist(BucketMode a, BucketMode b) { return AnomalyOf(a, b) == Anomaly::kNone; }

absl::string_view WhyNotCoexist(BucketMode a, BucketMode b) {
  switch (AnomalyOf(a, b)) {
    case Anomaly::kNone:
      return "";
    case Anomaly::kVoidEvidence:
      return "writes of one never reach the new side, so the other's comparisons would report false "
             "mismatches";
    case Anomaly::kLostUpdate:
      return "a reader of the new side would never see acknowledged writes that went to the old side only";
    case Anomaly::kDivergence:
      return "the two would write the sides in opposite orders, and the sides would differ for good";
    case Anomaly::kNewOnlyWrite:
      return "writes to the new side only are invisible to readers of the old side and overwritten from it";
    case Anomaly::kOldSideGone:
      return "one may drop the old side that the other still uses";
    case Anomaly::kNoWayBack:
      return "writes to the new side only would lose the way back while write authority is still moving";
  }
  return "";
}

std::string Incompatibility::ToString() const {
  return absl::StrCat("bucket ", bucket, " is ", BucketModeName(mode_a), " in one state and ",
                      BucketModeName(mode_b), " in the other: ", WhyNotCoexist(mode_a, mode_b));
}

std::optional<Incompatibility> FindIncompatibility(const RoutingState& a, const RoutingState& b) {
  // The mode of a bucket changes only at these bounds (and in CUTOVER only), so the first bucket of every
  // interval between them speaks for the whole interval.
  std::array<uint32_t, 5> starts = {0, a.write_weight, a.drain_weight, b.write_weight, b.drain_weight};
  std::sort(starts.begin(), starts.end());
  for (const uint32_t bucket : starts) {
    if (bucket >= kBucketCount) break;
    const BucketMode mode_a = ModeOfBucket(a, bucket);
    const BucketMode mode_b = ModeOfBucket(b, bucket);
    if (!MayCoexist(mode_a, mode_b)) return Incompatibility{bucket, mode_a, mode_b};
  }
  return std::nullopt;
}

}  // namespace lockstep::domain
