#include "tests/sim/oracle.h"

#include <algorithm>

#include "absl/strings/str_cat.h"
#include "core/domain/decision.h"
#include "core/domain/next_hop.h"

namespace lockstep::sim {
namespace {

using domain::BucketMode;
using domain::RoutingState;
using domain::Side;
using domain::Stage;

std::string Describe(const RoutingState& state) {
  return absl::StrCat("epoch ", state.epoch, " (", domain::StageName(state.stage), " read ",
                      state.read_weight, " drain ", state.drain_weight, " write ", state.write_weight, ")");
}

std::string Describe(const Row& row) {
  if (row.version == 0) return "nothing";
  return absl::StrCat("version ", row.version, " ",
                      row.value.has_value() ? absl::StrCat("= ", *row.value) : "deleted");
}

// The side whose row is the truth; none for a held bucket.
std::optional<Side> AuthorityOf(BucketMode mode) {
  switch (mode) {
    case BucketMode::kOff:
    case BucketMode::kDual:
    case BucketMode::kShadow:
    case BucketMode::kCanary:
      return Side::kOld;
    case BucketMode::kDrain:
      return std::nullopt;
    case BucketMode::kCutover:
    case BucketMode::kNewOnly:
    case BucketMode::kComplete:
      return Side::kNew;
  }
  return std::nullopt;
}

}  // namespace

std::string RoutingKeyOf(Key key) { return absl::StrCat("record-", key); }

void Oracle::Violate(std::string what) {
  if (violation_.empty()) violation_ = absl::StrCat(absl::FormatDuration(scheduler_->now()), ": ", what);
}

void Oracle::OnSent(const RoutingState& state) {
  const auto [known, is_new] = states_.try_emplace(state.epoch, state);
  if (!is_new && !known->second.RoutesLike(state)) {
    Violate(absl::StrCat(Describe(state), " was sent as another state before"));
  }
}

const RoutingState* Oracle::StateOf(uint64_t epoch) const {
  const auto found = states_.find(epoch);
  return found == states_.end() ? nullptr : &found->second;
}

void Oracle::OnCommand(const domain::Migration& after) {
  granted_ = after.pending.has_value() ? *after.pending : after.published;
}

void Oracle::OnUnknownCommand() { granted_ = domain::StateOfStage(Stage::kComplete, domain::kBucketCount); }

void Oracle::OnDecision(const domain::DecisionRecord& record, const domain::MigrationPlan& plan) {
  if (record.actor != "gate") return;
  const RoutingState &before = record.before, &after = record.after;
  // The first hop of an advance may be a hold.
  const bool rises = record.action == "advance" || after.stage > before.stage ||
                     after.read_weight > before.read_weight || after.write_weight > before.write_weight;
  ++(rises ? stats_->gate_advances : stats_->gate_others);
  const bool passed = record.evidence.has_value() && record.evidence->verdict == domain::Verdict::kAdvance &&
                      record.evidence->guards.empty();
  if (rises && !passed) {
    Violate(absl::StrCat(
        "the gate goes from ", Describe(before), " to ", Describe(after), " (decision ", record.number,
        "), but its evidence says: ", record.evidence.has_value() ? record.evidence->sentence : "nothing"));
  }
  granted_ = after;
  if (!rises || record.step < 0 || static_cast<size_t>(record.step) >= plan.steps.size()) return;
  // The record has the first hop; what is granted is the step.
  const domain::PlanStep& step = plan.steps[static_cast<size_t>(record.step)];
  granted_ = domain::StateOfStage(step.stage, step.weight);
  if (step.stage == Stage::kCutover) granted_->write_weight = step.weight;
}

void Oracle::CheckTotals(const domain::WindowStats& totals) {
  uint64_t counted = 0;
  for (const domain::ArmStats& arm : totals.arms) counted += arm.requests;
  if (counted <= reads_asked_) return;
  Violate(
      absl::StrCat("the server has counted ", counted, " reads, but services were asked for ", reads_asked_));
}

void Oracle::OnPublished(const RoutingState& now) {
  if (published_.has_value() && published_->epoch == now.epoch) return;
  ++stats_->publishes;
  if (now.stage >= Stage::kCutover) stats_->reached_cutover = 1;
  if (now.stage >= Stage::kNewOnly) stats_->reached_new_only = 1;
  if (domain::HoldsWrites(now)) ++stats_->slices;
  if (published_.has_value()) {
    const RoutingState& before = *published_;
    if (now.epoch < before.epoch)
      Violate(absl::StrCat(Describe(now), " was published after ", Describe(before)));
    const RoutingState granted = granted_.value_or(before);
    // Writes that are held may go back to the side that had them.
    const uint32_t write_limit = std::max({before.drain_weight, granted.write_weight});
    if (now.read_weight > std::max(before.read_weight, granted.read_weight) ||
        now.write_weight > write_limit || now.stage > std::max(before.stage, granted.stage)) {
      Violate(absl::StrCat(Describe(now), " follows ", Describe(before), ", and nobody asked for more than ",
                           Describe(granted)));
    }
  }
  published_ = now;
}

uint32_t Oracle::BucketOf(Key key, const RoutingState& state) const {
  return domain::Decide(state, RoutingKeyOf(key), nullptr).bucket;
}

void Oracle::CheckPair(const Actor& a, const Actor& b) {
  if (a.process == b.process) return;
  if (a.until < scheduler_->now() || b.until < scheduler_->now()) return;
  const RoutingState* const state_a = StateOf(a.epoch);
  const RoutingState* const state_b = StateOf(b.epoch);
  if (state_a == nullptr || state_b == nullptr) return;
  for (const uint32_t bucket : {a.bucket, b.bucket}) {
    const BucketMode mode_a = domain::ModeOfBucket(*state_a, bucket);
    const BucketMode mode_b = domain::ModeOfBucket(*state_b, bucket);
    if (domain::MayCoexist(mode_a, mode_b)) continue;
    Violate(absl::StrCat("process ", a.process, " acts by ", Describe(*state_a), " while process ", b.process,
                         " acts by ", Describe(*state_b), ": bucket ", bucket, " is ",
                         domain::BucketModeName(mode_a), " and ", domain::BucketModeName(mode_b)));
    return;
  }
}

int64_t Oracle::BeginActing(int process, Key key, uint64_t epoch, absl::Duration until) {
  const RoutingState* const state = StateOf(epoch);
  if (state == nullptr) {
    Violate(absl::StrCat("process ", process, " acts by epoch ", epoch, ", which nobody was sent"));
    return 0;
  }
  const Actor actor{process, BucketOf(key, *state), epoch, until};
  for (const auto& [id, other] : actors_) CheckPair(actor, other);
  CheckLeaseOf(actor);
  CheckBackfill(actor);
  const int64_t id = next_actor_++;
  actors_.emplace(id, actor);
  return id;
}

void Oracle::OnPassedBy(int process) {
  passed_by_.insert(process);
  for (const auto& [id, actor] : actors_) CheckLeaseOf(actor);
}

void Oracle::CheckLeaseOf(const Actor& actor) {
  const bool may_write = actor.until != absl::InfiniteDuration() && actor.until > scheduler_->now();
  if (!may_write || !passed_by_.contains(actor.process)) return;
  Violate(absl::StrCat("process ", actor.process, " may write at epoch ", actor.epoch, " until ",
                       absl::FormatDuration(actor.until),
                       ", but its lease is over for the control plane, which has passed it by"));
}

void Oracle::OnClaim(int process, uint64_t epoch) {
  for (const auto& [id, actor] : actors_) {
    if (actor.process != process || actor.epoch >= epoch || actor.until < scheduler_->now()) continue;
    Violate(absl::StrCat("process ", process, " says that it acts on nothing older than epoch ", epoch,
                         ", and acts by epoch ", actor.epoch));
  }
}

void Oracle::OnBackfillBegins(uint64_t generation) {
  backfill_begun_ = std::max(backfill_begun_, generation);
  for (const auto& [id, actor] : actors_) CheckBackfill(actor);
}

void Oracle::CheckBackfill(const Actor& actor) {
  const RoutingState* const state = StateOf(actor.epoch);
  if (state == nullptr || state->stage != Stage::kOff || state->generation > backfill_begun_) return;
  if (actor.until < scheduler_->now()) return;
  Violate(absl::StrCat("process ", actor.process, " acts by ", Describe(*state),
                       " although the backfill of generation ", backfill_begun_, " has begun"));
}

void Oracle::EndActing(int64_t acting) { actors_.erase(acting); }

void Oracle::ForgetProcess(int process) {
  std::erase_if(actors_, [process](const auto& entry) { return entry.second.process == process; });
}

void Oracle::OnRouted(uint64_t epoch, Key key, bool write, Side side) {
  auto& routed = write ? routed_writes_ : routed_reads_;
  const auto [known, is_new] = routed.try_emplace({epoch, key}, side);
  if (!is_new && known->second != side) {
    Violate(absl::StrCat(write ? "writes" : "reads", " of record ", key, " at epoch ", epoch,
                         " go to both sides"));
  }
}

void Oracle::OnApplied(Side side, Key key, const Row& row) {
  const auto [known, is_new] = minted_.try_emplace({key, row.version}, row.value);
  if (is_new || known->second == row.value || cut_.contains(key)) return;
  Violate(absl::StrCat("record ", key, ": version ", row.version,
                       " was given to two writes; the second is on the ", domain::SideName(side), " side"));
}

void Oracle::OnAcknowledged(const WriteOp& op, const ReadToken& token) {
  Acknowledged& known = acknowledged_[op.key];
  if (token.mirrored && token.version > known.mirrored) {
    known.mirrored = token.version;
    known.mirrored_value = op.value;
  }
  Version& side = known.side[static_cast<size_t>(token.authoritative)];
  side = std::max(side, token.version);
  known.all = std::max(known.all, token.version);
}

void Oracle::OnBackfilled(Key key, const Row& row) {
  Acknowledged& known = acknowledged_[key];
  if (row.version <= known.mirrored) return;
  known.mirrored = row.version;
  known.mirrored_value = row.value;
}

ReadExpectation Oracle::Expect(Key key, const ReadToken* after) const {
  ReadExpectation expected;
  const auto found = acknowledged_.find(key);
  if (found != acknowledged_.end()) {
    expected.of_mirrored = found->second.mirrored;
    expected.value_of_mirrored = found->second.mirrored_value;
    for (const size_t side : {0, 1}) expected.of_side[side] = found->second.side[side];
    expected.of_all = found->second.all;
  }
  if (after != nullptr) expected.of_token = after->version;
  return expected;
}

void Oracle::OnRead(Key key, const ReadExpectation& expected, Side side, uint64_t epoch, const Row& seen,
                    bool strict) {
  const auto miss = [&](Version version, absl::string_view which) {
    if (seen.version >= version) return;
    Violate(absl::StrCat("a read of record ", key, " from the ", domain::SideName(side), " side at epoch ",
                         epoch, " saw ", Describe(seen), " although ", which, " version ", version,
                         " had been acknowledged before it began"));
  };
  miss(expected.of_mirrored, "on both sides");
  if (seen.version == expected.of_mirrored && seen.version != 0 && seen.value != expected.value_of_mirrored &&
      !cut_.contains(key)) {
    Violate(absl::StrCat("a read of record ", key, " saw ", Describe(seen),
                         ", which is not the write acknowledged"));
  }
  const RoutingState* const state = StateOf(epoch);
  // What was acknowledged before its mirror had it is lost with a process that keeps no journal.
  if (cut_.contains(key)) return;
  miss(expected.of_token, "for the token presented");
  if (!strict || state == nullptr) return;
  miss(expected.of_side[static_cast<size_t>(side)], "from this side");
  if (AuthorityOf(domain::ModeOfBucket(*state, BucketOf(key, *state))) == side)
    miss(expected.of_all, "anywhere");
}

void Oracle::CheckStores(const ModelStore& old_side, const ModelStore& new_side,
                         const RoutingState& published, bool backfilled) {
  std::set<Key> keys;
  for (const auto& [key, row] : old_side.rows) keys.insert(key);
  for (const auto& [key, row] : new_side.rows) keys.insert(key);
  const domain::LadderRow& row = domain::LadderRowOf(published.stage);
  const bool mirrored = row.writes_old && row.writes_new && backfilled;
  for (const Key key : keys) {
    const Row in_old = old_side.Get(key), in_new = new_side.Get(key);
    const Row& truth = AuthorityOf(domain::ModeOfBucket(published, BucketOf(key, published))) == Side::kNew
                           ? in_new
                           : in_old;
    const auto acknowledged = acknowledged_.find(key);
    if (acknowledged != acknowledged_.end() && truth.version < acknowledged->second.all &&
        !cut_.contains(key)) {
      Violate(absl::StrCat("record ", key, ": the authoritative side has ", Describe(truth),
                           " although version ", acknowledged->second.all, " was acknowledged"));
    }
    const bool equal = in_old.version == in_new.version && in_old.value == in_new.value;
    if (!mirrored || equal) continue;
    if (cut_.contains(key)) {
      ++stats_->cut_keys;
      continue;
    }
    Violate(absl::StrCat("record ", key, " differs for good: old has ", Describe(in_old), ", new has ",
                         Describe(in_new)));
  }
}

}  // namespace lockstep::sim
