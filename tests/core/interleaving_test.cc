// Proves the matrix of core/domain/compatibility.h by enumeration: two instances, each in one mode, each
// running a short program on one record; every operation is split into its atomic steps and every
// interleaving is tried.
//
// The model. A side holds one row: value, version, or a tombstone with a version. A write runs first on its
// authoritative side, which gives the resulting row its next version; then, if the mode mirrors, the other
// side takes row and version over, unless it has that version or a newer one (deletes leave tombstones). It
// is acknowledged after its last step: mirrors are write-through, as they must be from CANARY_READ on. A
// read-modify-write is atomic on its authoritative side. Held writes do nothing. A COMPLETE instance may have
// the old side dropped at any moment.
//
// What is derived by interleaving: a, b, c, d, e, g and h, as anomalies of the runs (below). What is put in
// as a rule:
// - a is no reason to keep states apart: nobody reads the rows concerned, and a backfill waits for the OFF
// fence;
// - b does not count beside NEW_ONLY and COMPLETE: they have given up the evidence and the way back;
// - h counts one mode back only (a held bucket may be released to old authority by the next epoch). CUTOVER
// beside
//   NEW_ONLY loses the whole way back, which the matrix allows and the API announces.
// - a stale read that overlaps the write (t) is allowed.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <array>
#include <map>
#include <optional>
#include <set>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "core/domain/compatibility.h"

namespace lockstep::domain {
namespace {

constexpr std::array<BucketMode, kBucketModeCount> kModes = {
    BucketMode::kOff,   BucketMode::kDual,    BucketMode::kShadow,  BucketMode::kCanary,
    BucketMode::kDrain, BucketMode::kCutover, BucketMode::kNewOnly, BucketMode::kComplete};

// What a mode does, from the ladder of the specification.
enum class Place : uint8_t { kOld, kNew };
struct Behaviour {
  std::optional<Place> authority;  // nothing: writes are held
  bool mirrors;
  bool reads_old, reads_new;
  bool compares;
  std::optional<BucketMode> back;  // the mode one step back
};

Behaviour BehaviourOf(BucketMode mode) {
  switch (mode) {
    case BucketMode::kOff:
      return {Place::kOld, false, true, false, false, std::nullopt};
    case BucketMode::kDual:
      return {Place::kOld, true, true, false, false, BucketMode::kOff};
    case BucketMode::kShadow:
      return {Place::kOld, true, true, false, true, BucketMode::kDual};
    case BucketMode::kCanary:
      return {Place::kOld, true, true, true, true, BucketMode::kShadow};
    case BucketMode::kDrain:
      return {std::nullopt, false, false, true, true, BucketMode::kCanary};
    case BucketMode::kCutover:
      return {Place::kNew, true, false, true, true, BucketMode::kDrain};
    case BucketMode::kNewOnly:
      return {Place::kNew, false, false, true, false, std::nullopt};
    case BucketMode::kComplete:
      return {Place::kNew, false, false, true, false, std::nullopt};
  }
  return {};
}

bool UsesOld(const Behaviour& b) {
  return b.authority == Place::kOld || b.mirrors || b.reads_old || b.compares;
}
bool GaveUpOld(BucketMode mode) { return mode == BucketMode::kNewOnly || mode == BucketMode::kComplete; }

enum class Kind : uint8_t { kCreate, kUpdate, kPut, kDelete, kReadModifyWrite, kRead };

// A value is the set of writes it shows, as bits; absent = nothing.
using Value = std::optional<uint8_t>;
constexpr uint8_t kInitialBit = 0x80;

struct Row {
  Value value;
  int version = 0;
};

// Runs one write on one value. False: it is refused and changes nothing.
bool Run(Kind kind, uint8_t bit, Value& value) {
  switch (kind) {
    case Kind::kCreate:
      if (value.has_value()) return false;
      value = bit;
      return true;
    case Kind::kUpdate:
      if (!value.has_value()) return false;
      value = bit;
      return true;
    case Kind::kPut:
      value = bit;
      return true;
    case Kind::kDelete:
      value.reset();
      return true;
    case Kind::kReadModifyWrite:
      value = static_cast<uint8_t>(value.value_or(0) | bit);
      return true;
    case Kind::kRead:
      return true;
  }
  return false;
}

constexpr int kNever = 1 << 20;

struct Operation {
  int instance = 0;
  Kind kind = Kind::kPut;
  uint8_t bit = 0;
  int step = 0;                          // steps done
  int started = kNever, ended = kNever;  // ended: acknowledged
  bool finished = false;
  bool accepted = false;
  Row result;  // writes: what the mirror gets
  Value seen;  // reads
  Place read_at = Place::kOld;
};

// The letters of semantics.md section 3 that a pair of modes can show.
struct Anomalies {
  std::set<char> hard;  // reasons to keep the modes apart
  std::set<char> soft;  // a, t and the distant h: noted, allowed
  void Merge(const Anomalies& other) {
    hard.insert(other.hard.begin(), other.hard.end());
    soft.insert(other.soft.begin(), other.soft.end());
  }
};

// The means by which mirrored sides stay equal; each can be taken away, to show that the checker notices.
struct Means {
  bool version_guard = true;
  bool tombstones = true;
  bool write_through = true;
};

class Checker {
 public:
  Checker(BucketMode a, BucketMode b, Means means = {})
      : modes_{a, b}, behaviours_{BehaviourOf(a), BehaviourOf(b)}, means_(means) {}

  // Tries every interleaving of the two programs from `initial` on both sides.
  void Explore(const Row& initial, const std::vector<Kind>& first, const std::vector<Kind>& second) {
    initial_ = initial;
    World world;
    world.old_side = world.new_side = initial;
    for (const auto& [instance, program] : {std::pair{0, &first}, std::pair{1, &second}}) {
      for (const Kind kind : *program) {
        if (kind != Kind::kRead && !behaviours_[instance].authority) continue;  // held
        Operation operation;
        operation.instance = instance;
        operation.kind = kind;
        operation.bit = static_cast<uint8_t>(1 << world.operations.size());
        world.operations.push_back(operation);
      }
    }
    Step(world);
  }

  const Anomalies& found() const { return found_; }
  int64_t runs() const { return runs_; }

 private:
  struct World {
    Row old_side, new_side;
    bool old_dropped = false;
    int time = 0;
    std::vector<Operation> operations;
    Row& at(Place place) { return place == Place::kOld ? old_side : new_side; }
    const Row& at(Place place) const { return place == Place::kOld ? old_side : new_side; }
  };

  void Step(const World& world) {
    bool done = true;
    std::array<bool, 2> busy = {};
    for (size_t i = 0; i < world.operations.size(); ++i) {
      const Operation& operation = world.operations[i];
      // An instance runs its operations one after the other.
      if (operation.finished || busy[operation.instance]) continue;
      busy[operation.instance] = true;
      done = false;
      if (operation.kind != Kind::kRead) {
        StepWrite(world, i);
        continue;
      }
      if (behaviours_[operation.instance].reads_old) StepRead(world, i, Place::kOld);
      if (behaviours_[operation.instance].reads_new) StepRead(world, i, Place::kNew);
    }
    const bool may_drop = modes_[0] == BucketMode::kComplete || modes_[1] == BucketMode::kComplete;
    if (may_drop && !world.old_dropped) {
      World next = world;
      next.old_dropped = true;
      Step(next);
    }
    if (done) Judge(world);
  }

  // False, and noted, if the step needs the old side after it was dropped.
  bool Touch(const World& world, Place place) {
    if (place == Place::kNew || !world.old_dropped) return true;
    found_.hard.insert('g');
    return false;
  }

  void StepWrite(const World& world, size_t index) {
    World next = world;
    Operation& operation = next.operations[index];
    const Behaviour& behaviour = behaviours_[operation.instance];
    const Place authority = *behaviour.authority;
    const Place place =
        operation.step == 0 ? authority : (authority == Place::kOld ? Place::kNew : Place::kOld);
    if (!Touch(world, place)) return;
    Row& row = next.at(place);
    const int now = next.time++;
    if (operation.step == 0) {
      operation.started = now;
      operation.accepted = Run(operation.kind, operation.bit, row.value);
      if (operation.accepted) operation.result = {row.value, ++row.version};
    } else if (operation.result.version > row.version || !means_.version_guard) {
      row = operation.result;
    }
    if (!row.value.has_value() && !means_.tombstones) row.version = 0;
    ++operation.step;
    operation.finished = !operation.accepted || !behaviour.mirrors || operation.step == 2;
    if (operation.ended == kNever && (operation.finished || !means_.write_through)) operation.ended = now;
    // Between the two steps the sides differ: a reader of one and then of the other goes back in time.
    const bool reads_old = behaviours_[0].reads_old || behaviours_[1].reads_old;
    const bool reads_new = behaviours_[0].reads_new || behaviours_[1].reads_new;
    if (!operation.finished && reads_old && reads_new) found_.soft.insert('t');
    Step(next);
  }

  void StepRead(const World& world, size_t index, Place place) {
    if (!Touch(world, place)) return;
    World next = world;
    Operation& operation = next.operations[index];
    operation.started = operation.ended = next.time++;
    operation.finished = true;
    operation.seen = next.at(place).value;
    operation.read_at = place;
    Step(next);
  }

  // Calls `visit` with every order of the writes that respects real time and reproduces which of them were
  // refused; `visit` gets the order and the values after 0, 1, ... writes.
  template <typename Visit>
  void ForEachSerialOrder(const std::vector<const Operation*>& writes, Visit visit) const {
    std::vector<size_t> order(writes.size());
    for (size_t i = 0; i < order.size(); ++i) order[i] = i;
    do {
      bool possible = true;
      std::vector<Value> values = {initial_.value};
      std::vector<const Operation*> sequence;
      for (size_t i = 0; i < order.size() && possible; ++i) {
        const Operation& write = *writes[order[i]];
        for (size_t j = i + 1; j < order.size(); ++j)
          possible = possible && writes[order[j]]->ended >= write.started;
        Value value = values.back();
        possible = possible && Run(write.kind, write.bit, value) == write.accepted;
        values.push_back(value);
        sequence.push_back(&write);
      }
      if (possible) visit(sequence, values);
    } while (std::next_permutation(order.begin(), order.end()));
  }

  // A reader on this side saw something that no order of the writes explains.
  void NoteWrongView(Place place) { found_.hard.insert(place == Place::kNew ? 'c' : 'e'); }

  void JudgeRead(const Operation& read, const std::vector<const Operation*>& writes) {
    bool explained = false;
    ForEachSerialOrder(writes,
                       [&](const std::vector<const Operation*>& order, const std::vector<Value>& values) {
                         for (size_t seen = 0; seen <= order.size(); ++seen) {
                           bool possible = values[seen] == read.seen;
                           for (size_t i = 0; i < order.size(); ++i) {
                             if (i >= seen && order[i]->ended < read.started)
                               possible = false;  // acknowledged, yet not seen
                             if (i < seen && order[i]->started > read.ended) possible = false;
                           }
                           explained = explained || possible;
                         }
                       });
    if (!explained) NoteWrongView(read.read_at);
  }

  void Judge(const World& world) {
    ++runs_;
    std::vector<const Operation*> writes;
    for (const Operation& operation : world.operations) {
      if (operation.kind != Kind::kRead) writes.push_back(&operation);
    }
    for (const Operation& operation : world.operations) {
      if (operation.kind == Kind::kRead) JudgeRead(operation, writes);
    }
    std::vector<Value> legal;
    ForEachSerialOrder(
        writes, [&](const auto&, const std::vector<Value>& values) { legal.push_back(values.back()); });
    const auto is_legal = [&](Place place) {
      return std::find(legal.begin(), legal.end(), world.at(place).value) != legal.end();
    };
    const Value old_value = world.old_side.value;
    const bool differ = old_value != world.new_side.value;
    bool reads_old = false, reads_new = false, compares = false, both_mirror = true;
    for (int i = 0; i < 2; ++i) {
      const Behaviour& behaviour = behaviours_[i];
      reads_old = reads_old || behaviour.reads_old;
      reads_new = reads_new || behaviour.reads_new;
      compares = compares || behaviour.compares;
      both_mirror = both_mirror && (behaviour.mirrors || !behaviour.authority);
      if (world.old_dropped && UsesOld(behaviour)) found_.hard.insert('g');
      JudgeWayBack(world, modes_[i], is_legal(Place::kOld) && !differ);
    }
    if (reads_new && !is_legal(Place::kNew)) NoteWrongView(Place::kNew);
    if (world.old_dropped) return;  // noted above if anybody minds; there is nothing left to compare with
    if (reads_old && !is_legal(Place::kOld)) NoteWrongView(Place::kOld);
    if (!differ) return;
    const bool opposite = behaviours_[0].authority && behaviours_[1].authority &&
                          behaviours_[0].authority != behaviours_[1].authority;
    const bool new_first_mirrors = modes_[0] == BucketMode::kCutover || modes_[1] == BucketMode::kCutover;
    if ((reads_old && reads_new) || both_mirror || (opposite && new_first_mirrors)) found_.hard.insert('d');
    if (compares && !GaveUpOld(modes_[0]) && !GaveUpOld(modes_[1])) found_.hard.insert('b');
    if (!reads_new) found_.soft.insert('a');
  }

  // The way back from `mode` needs every acknowledged write on the side that the modes on that way read.
  void JudgeWayBack(const World& world, BucketMode mode, bool old_is_good) {
    bool one_step = true;
    for (auto back = BehaviourOf(mode).back; back.has_value(); back = BehaviourOf(*back).back) {
      const Behaviour behaviour = BehaviourOf(*back);
      // Ways back that end where new is not authoritative read old; those below CANARY are judged by their
      // own readers.
      if (mode == BucketMode::kDrain || mode == BucketMode::kCutover) {
        if (behaviour.reads_old && (world.old_dropped || !old_is_good)) {
          (one_step ? found_.hard : found_.soft).insert('h');
          if (world.old_dropped) found_.hard.insert('g');
        }
      }
      one_step = false;
    }
  }

  std::array<BucketMode, 2> modes_;
  std::array<Behaviour, 2> behaviours_;
  Means means_;
  Row initial_;
  Anomalies found_;
  int64_t runs_ = 0;
};

const std::vector<Row>& InitialRows() {
  static const std::vector<Row> kRows = {
      {std::nullopt, 0},  // never there
      {kInitialBit, 1},   // there, and backfilled
      {std::nullopt, 1},  // deleted: tombstones on both sides
  };
  return kRows;
}

// One operation each, of every kind.
Checker CheckPair(BucketMode a, BucketMode b, Means means = {}) {
  constexpr Kind kKinds[] = {Kind::kCreate, Kind::kUpdate,          Kind::kPut,
                             Kind::kDelete, Kind::kReadModifyWrite, Kind::kRead};
  Checker checker(a, b, means);
  for (const Row& initial : InitialRows()) {
    for (const Kind first : kKinds) {
      for (const Kind second : kKinds) checker.Explore(initial, {first}, {second});
    }
  }
  return checker;
}

// Two operations each, of the kinds that matter.
Checker CheckPairInDepth(BucketMode a, BucketMode b) {
  constexpr Kind kKinds[] = {Kind::kPut, Kind::kDelete, Kind::kReadModifyWrite, Kind::kRead};
  Checker checker(a, b);
  for (const Row& initial : InitialRows()) {
    for (const Kind a1 : kKinds) {
      for (const Kind a2 : kKinds) {
        for (const Kind b1 : kKinds) {
          for (const Kind b2 : kKinds) checker.Explore(initial, {a1, a2}, {b1, b2});
        }
      }
    }
  }
  return checker;
}

std::string Letters(const std::set<char>& letters) { return std::string(letters.begin(), letters.end()); }
std::string PairName(BucketMode a, BucketMode b) {
  return absl::StrCat(BucketModeName(a), " and ", BucketModeName(b));
}

TEST(InterleavingTest, TheMatrixIsWhatTheInterleavingsShow) {
  int64_t runs = 0;
  for (const BucketMode a : kModes) {
    for (const BucketMode b : kModes) {
      const Checker checker = CheckPair(a, b);
      runs += checker.runs();
      EXPECT_EQ(MayCoexist(a, b), checker.found().hard.empty())
          << PairName(a, b) << " show " << Letters(checker.found().hard);
    }
  }
  RecordProperty("interleavings", absl::StrCat(runs));
  EXPECT_GT(runs, 10'000);
}

// The letters of semantics.md section 3, each shown by at least one interleaving.
TEST(InterleavingTest, EveryLetterOfTheSpecificationIsShown) {
  // Rows OFF to COMPLETE, columns DUAL to COMPLETE, as printed there.
  const std::vector<std::vector<std::string>> kLetters = {
      {"a", "ab", "c", "c", "cd", "ce", "ceg"}, {"", "", "t", "", "d", "e", "eg"},
      {"-", "", "t", "", "d", "e", "eg"},       {"-", "-", "t", "", "d", "e", "eg"},
      {"-", "-", "-", "", "", "h", "gh"},       {"-", "-", "-", "-", "", "h", "gh"},
      {"-", "-", "-", "-", "-", "", ""},
  };
  for (size_t row = 0; row < kLetters.size(); ++row) {
    for (size_t column = 0; column < kLetters[row].size(); ++column) {
      if (kLetters[row][column] == "-") continue;
      const BucketMode a = kModes[row], b = kModes[column + 1];
      Anomalies found = CheckPair(a, b).found();
      found.hard.merge(found.soft);
      for (const char letter : kLetters[row][column]) {
        EXPECT_EQ(found.hard.count(letter), 1u)
            << PairName(a, b) << ": no interleaving shows " << letter << ", but " << Letters(found.hard);
      }
    }
  }
}

TEST(InterleavingTest, PairsThatMayCoexistSurviveLongerPrograms) {
  for (const BucketMode a : kModes) {
    for (const BucketMode b : kModes) {
      if (b < a || !MayCoexist(a, b)) continue;
      const Checker checker = CheckPairInDepth(a, b);
      EXPECT_TRUE(checker.found().hard.empty())
          << PairName(a, b) << " show " << Letters(checker.found().hard);
    }
  }
}

// The checker sees what it looks for: mirrored writes are sound only with all of their means.
TEST(InterleavingTest, WithoutItsMeansEvenDualWritingFails) {
  EXPECT_FALSE(
      CheckPair(BucketMode::kDual, BucketMode::kShadow, {.version_guard = false}).found().hard.empty());
  EXPECT_FALSE(CheckPair(BucketMode::kDual, BucketMode::kShadow, {.tombstones = false}).found().hard.empty());
  EXPECT_EQ(
      CheckPair(BucketMode::kDual, BucketMode::kCanary, {.write_through = false}).found().hard.count('c'),
      1u);
  // Below CANARY_READ nobody reads new, and write-behind is sound.
  EXPECT_TRUE(
      CheckPair(BucketMode::kDual, BucketMode::kShadow, {.write_through = false}).found().hard.empty());
}

}  // namespace
}  // namespace lockstep::domain
