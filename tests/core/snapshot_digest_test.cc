// The digest is public contract: golden values, and that every field counts. Deltas lead from any snapshot to
// any other one.
#define XXH_INLINE_ALL
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <xxhash.h>

#include <functional>
#include <memory>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/escaping.h"
#include "absl/strings/str_cat.h"
#include "core/base/prng.h"
#include "core/domain/snapshot.h"

namespace lockstep::domain {
namespace {

using ::testing::HasSubstr;

Pins TestPins() {
  Pins pins;
  pins.keys = {{"vip", Side::kOld}, {"internal", Side::kNew}, {"\xff", Side::kNew}, {"z", Side::kOld}};
  pins.rules = {{"tenant", {"a", "b"}, Side::kNew}, {"region", {"eu"}, Side::kOld}};
  return pins;
}

MigrationRouting Everything() {
  MigrationRouting routing;
  routing.name = "namespaces/shop/migrations/orders";
  RoutingState& state = routing.state;
  state.stage = Stage::kCutover;
  state.read_weight = 100'000;
  state.drain_weight = 30'000;
  state.write_weight = 25'000;
  state.epoch = 41;
  state.generation = 3;
  state.comparison_weight = 50'000;
  state.salt_seed = 0x0123456789abcdef;
  state.pins = std::make_shared<const Pins>(TestPins());
  routing.contract.revision = 9;
  routing.contract.fields = {{.path = "total",
                              .old_path = "total_cents",
                              .new_path = "total",
                              .ignore = false,
                              .tolerance = 0.5,
                              .has_default = true,
                              .default_value = "0",
                              .list_order = ListOrder::kUnordered,
                              .sensitive = true},
                             {.path = "note"}};
  return routing;
}

std::string Hex(uint64_t digest) { return absl::StrCat(absl::Hex(digest, absl::kZeroPad16)); }

uint64_t HashOfHex(const std::string& hex) {
  const std::string bytes = absl::HexStringToBytes(hex);
  return XXH3_64bits(bytes.data(), bytes.size());
}

// The bytes were put together from the layout in snapshot.h, by hand as it were, and not by this code.
TEST(SnapshotDigestTest, GoldenValues) {
  MigrationRouting minimal;
  minimal.name = "namespaces/a/migrations/b";
  const std::string minimal_bytes =
      "190000006e616d657370616365732f612f6d6967726174696f6e732f620000000000000000000000000000000000"
      "000000000100000000000000a086010000000000000000000000000000000000010000000000000000000000";
  const std::string everything_bytes =
      "210000006e616d657370616365732f73686f702f6d6967726174696f6e732f6f726465727304a086010030750000"
      "a86100002900000000000000030000000000000050c30000efcdab89674523010400000008000000696e7465726e"
      "616c010300000076697000010000007a0001000000ff01020000000600000074656e616e74020000000100000061"
      "01000000620106000000726567696f6e010000000200000065750009000000000000000200000005000000746f74"
      "616c0b000000746f74616c5f63656e747305000000746f74616c00000000000000e03f0101000000300101040000"
      "006e6f7465000000000000000000000000000000000000000000000000";
  const std::string snapshot_bytes =
      "edfe000000000000070000000000000002000000190000006e616d657370616365732f612f6d6967726174696f6e"
      "732f623b9f776747bb784b210000006e616d657370616365732f73686f702f6d6967726174696f6e732f6f726465"
      "7273d0ec06abd4efa2ff";
  EXPECT_EQ(Hex(RoutingDigest(minimal)), "4b78bb4767779f3b");
  EXPECT_EQ(RoutingDigest(minimal), HashOfHex(minimal_bytes));
  EXPECT_EQ(Hex(RoutingDigest(Everything())), "ffa2efd4ab06ecd0");
  EXPECT_EQ(RoutingDigest(Everything()), HashOfHex(everything_bytes));
  const Snapshot snapshot = {7, 0xfeed, {minimal, Everything()}};
  EXPECT_EQ(Hex(SnapshotDigest(snapshot)), "772058f13575aea9");
  EXPECT_EQ(SnapshotDigest(snapshot), HashOfHex(snapshot_bytes));
  EXPECT_EQ(Hex(SnapshotDigest({})), "16773ceb7fe497b1");
}

using Change = std::function<void(MigrationRouting&)>;

void ChangePins(MigrationRouting& routing, const std::function<void(Pins&)>& change) {
  Pins pins = *routing.state.pins;
  change(pins);
  routing.state.pins = std::make_shared<const Pins>(std::move(pins));
}

TEST(SnapshotDigestTest, EveryFieldCounts) {
  const std::pair<const char*, Change> kChanges[] = {
      {"name", [](auto& r) { r.name += "x"; }},
      {"stage", [](auto& r) { r.state.stage = Stage::kNewOnly; }},
      {"read_weight", [](auto& r) { --r.state.read_weight; }},
      {"drain_weight", [](auto& r) { ++r.state.drain_weight; }},
      {"write_weight", [](auto& r) { ++r.state.write_weight; }},
      {"epoch", [](auto& r) { ++r.state.epoch; }},
      {"high bits of epoch", [](auto& r) { r.state.epoch += uint64_t{1} << 40; }},
      {"generation", [](auto& r) { ++r.state.generation; }},
      {"comparison_weight", [](auto& r) { ++r.state.comparison_weight; }},
      {"salt_seed", [](auto& r) { ++r.state.salt_seed; }},
      {"no pins", [](auto& r) { r.state.pins = nullptr; }},
      {"key", [](auto& r) { ChangePins(r, [](Pins& p) { p.keys["another"] = Side::kOld; }); }},
      {"side of a key", [](auto& r) { ChangePins(r, [](Pins& p) { p.keys["vip"] = Side::kNew; }); }},
      {"attribute", [](auto& r) { ChangePins(r, [](Pins& p) { p.rules[0].attribute = "t"; }); }},
      {"value", [](auto& r) { ChangePins(r, [](Pins& p) { p.rules[0].values[1] = "c"; }); }},
      {"values", [](auto& r) { ChangePins(r, [](Pins& p) { p.rules[0].values = {"ab"}; }); }},
      {"side of a rule", [](auto& r) { ChangePins(r, [](Pins& p) { p.rules[1].side = Side::kNew; }); }},
      {"order of rules", [](auto& r) { ChangePins(r, [](Pins& p) { std::swap(p.rules[0], p.rules[1]); }); }},
      {"contract revision", [](auto& r) { ++r.contract.revision; }},
      {"fields", [](auto& r) { r.contract.fields.pop_back(); }},
      {"order of fields", [](auto& r) { std::swap(r.contract.fields[0], r.contract.fields[1]); }},
      {"path", [](auto& r) { r.contract.fields[0].path = "t"; }},
      {"old_path", [](auto& r) { r.contract.fields[0].old_path = "t"; }},
      {"new_path", [](auto& r) { r.contract.fields[0].new_path = "t"; }},
      {"ignore", [](auto& r) { r.contract.fields[0].ignore = true; }},
      {"tolerance", [](auto& r) { r.contract.fields[0].tolerance = 0.25; }},
      {"has_default", [](auto& r) { r.contract.fields[0].has_default = false; }},
      {"default_value", [](auto& r) { r.contract.fields[0].default_value = "1"; }},
      {"list_order", [](auto& r) { r.contract.fields[0].list_order = ListOrder::kOrdered; }},
      {"sensitive", [](auto& r) { r.contract.fields[0].sensitive = false; }},
  };
  std::set<uint64_t> digests = {RoutingDigest(Everything())};
  for (const auto& [what, change] : kChanges) {
    MigrationRouting changed = Everything();
    change(changed);
    EXPECT_TRUE(digests.insert(RoutingDigest(changed)).second) << what;
  }
}

TEST(SnapshotDigestTest, SnapshotsDifferByStoreRevisionAndEntries) {
  const Snapshot base = {7, 1, {Everything()}};
  std::set<uint64_t> digests = {SnapshotDigest(base)};
  for (const Snapshot& other : {Snapshot{8, 1, {Everything()}}, Snapshot{7, 2, {Everything()}},
                                Snapshot{7, 1, {}}, Snapshot{7, 1, {MigrationRouting(), Everything()}}}) {
    EXPECT_TRUE(digests.insert(SnapshotDigest(other)).second);
  }
}

TEST(SnapshotDigestTest, WhatIsActedOnAlikeHasOneDigest) {
  MigrationRouting routing = Everything();
  // Other hash tables iterate in another order.
  for (int size : {0, 10, 1000}) {
    Pins pins;
    pins.keys.reserve(size);
    pins.rules = TestPins().rules;
    for (const char* key : {"z", "\xff", "internal", "vip"}) pins.keys[key] = TestPins().keys[key];
    routing.state.pins = std::make_shared<const Pins>(std::move(pins));
    EXPECT_EQ(RoutingDigest(routing), RoutingDigest(Everything()));
  }
  routing.state.pins = nullptr;
  const uint64_t without = RoutingDigest(routing);
  routing.state.pins = std::make_shared<const Pins>();
  EXPECT_EQ(RoutingDigest(routing), without);
  routing.contract.fields[1].tolerance = -0.0;
  EXPECT_EQ(RoutingDigest(routing), without);
  routing.digest = 99;
  EXPECT_EQ(RoutingDigest(routing), without) << "the digest is not part of itself";
}

TEST(SnapshotDigestTest, TheDigestThatIsThereIsTaken) {
  Snapshot snapshot = {7, 1, {Everything()}};
  const uint64_t digest = SnapshotDigest(snapshot);
  snapshot.migrations[0].digest = RoutingDigest(snapshot.migrations[0]);
  EXPECT_EQ(SnapshotDigest(snapshot), digest);
  ++snapshot.migrations[0].digest;
  EXPECT_NE(SnapshotDigest(snapshot), digest);
}

Snapshot RandomSnapshot(Prng& prng, uint64_t revision, bool digested) {
  Snapshot out = {revision, 5, {}};
  for (int i = 0; i < 8; ++i) {
    if (prng.Below(3) == 0) continue;
    MigrationRouting& routing = out.migrations.emplace_back();
    routing.name = absl::StrCat("m", i);
    routing.state.epoch = 1 + prng.Below(2);
    routing.contract.revision = 1 + prng.Below(2);
    if (digested) routing.digest = RoutingDigest(routing);
  }
  return out;
}

TEST(SnapshotDeltaTest, LeadsFromAnySnapshotToAnyOther) {
  for (uint64_t seed = 1; seed <= 2'000; ++seed) {
    SCOPED_TRACE(testing::Message() << "seed " << seed);
    Prng prng(seed);
    const bool digested = prng.Below(2) == 0;
    const Snapshot base = RandomSnapshot(prng, 10, digested);
    const Snapshot next = RandomSnapshot(prng, 10 + prng.Below(3), digested);
    const SnapshotDelta delta = DeltaBetween(base, next);
    // No more than needed.
    for (const MigrationRouting& changed : delta.changed) {
      const MigrationRouting* before = base.Find(changed.name);
      EXPECT_TRUE(before == nullptr || RoutingDigest(*before) != RoutingDigest(changed)) << changed.name;
    }
    for (const std::string& removed : delta.removed) EXPECT_EQ(next.Find(removed), nullptr);
    const absl::StatusOr<Snapshot> applied = ApplyDelta(base, delta);
    ASSERT_TRUE(applied.ok()) << applied.status();
    EXPECT_EQ(SnapshotDigest(*applied), SnapshotDigest(next));
    EXPECT_EQ(applied->store_epoch, next.store_epoch);
    EXPECT_EQ(applied->migrations.size(), next.migrations.size());
  }
}

TEST(SnapshotDeltaTest, RefusesWhatDoesNotFit) {
  MigrationRouting a, b;
  a.name = "a";
  b.name = "b";
  const Snapshot base = {7, 5, {a, b}};
  struct Case {
    SnapshotDelta delta;
    absl::StatusCode code;
    const char* message;
  };
  const Case kCases[] = {
      {{6, 8, {}, {}}, absl::StatusCode::kFailedPrecondition, "changes revision 6, and revision 7 is in use"},
      {{7, 8, {}, {"c"}}, absl::StatusCode::kInvalidArgument, "c is not there"},
      {{7, 8, {b, a}, {}}, absl::StatusCode::kInvalidArgument, "changed: a follows b: not sorted"},
      {{7, 8, {a, a}, {}}, absl::StatusCode::kInvalidArgument, "a follows a: not sorted, or listed twice"},
      {{7, 8, {}, {"b", "a"}}, absl::StatusCode::kInvalidArgument, "removed: a follows b"},
      {{7, 8, {a}, {"a"}}, absl::StatusCode::kInvalidArgument, "a is both changed and removed"},
  };
  for (const Case& c : kCases) {
    const absl::StatusOr<Snapshot> applied = ApplyDelta(base, c.delta);
    EXPECT_EQ(applied.status().code(), c.code) << c.message;
    EXPECT_THAT(std::string(applied.status().message()), HasSubstr(c.message));
  }
}

}  // namespace
}  // namespace lockstep::domain
