#include "core/wire/routing.h"

#include <gtest/gtest.h>

#include <functional>

#include "absl/strings/str_cat.h"
#include "core/wire/timestamps.h"
#include "tests/wire/random_values.h"
#include "tests/wire/violation_matchers.h"

namespace lockstep::wire {
namespace {

constexpr char kName[] = "namespaces/a/migrations/b";

std::string NameOf(int i) { return absl::StrCat("namespaces/a/migrations/m", i); }

v1::Enrol ValidEnrol() {
  v1::Enrol out;
  out.set_instance_id("host-1:8080_a.B");
  out.set_service("orders");
  out.set_version("1.0");
  out.add_migrations(kName);
  v1::HeldEpoch* held = out.add_held();
  held->set_migration(kName);
  held->set_epoch(4);
  return out;
}

TEST(EnrolTest, Valid) {
  const auto enrolment = EnrolFromProto(ValidEnrol());
  ASSERT_TRUE(enrolment.ok()) << enrolment.status();
  EXPECT_EQ(enrolment->instance_id, "host-1:8080_a.B");
  EXPECT_EQ(enrolment->acknowledged_epochs.at(kName), 4u);
  EXPECT_EQ(enrolment->enrolled_at, absl::InfinitePast());
}

TEST(EnrolTest, RefusesEachBadField) {
  const struct {
    const char* field;
    const char* description;
    std::function<void(v1::Enrol&)> spoil;
  } cases[] = {
      {"instance_id", "empty", [](auto& e) { e.clear_instance_id(); }},
      {"instance_id", "at most 128", [](auto& e) { e.set_instance_id(std::string(129, 'x')); }},
      {"instance_id", "other characters", [](auto& e) { e.set_instance_id("a b"); }},
      {"instance_id", "other characters", [](auto& e) { e.set_instance_id("a/b"); }},
      {"instance_id", "other characters", [](auto& e) { e.set_instance_id(std::string("a\0b", 3)); }},
      {"instance_id", "other characters", [](auto& e) { e.set_instance_id("\xc3\xa4"); }},
      {"service", "empty", [](auto& e) { e.clear_service(); }},
      {"service", "at most 63", [](auto& e) { e.set_service(std::string(64, 'x')); }},
      {"version", "at most 128", [](auto& e) { e.set_version(std::string(129, 'x')); }},
      {"migrations", "empty",
       [](auto& e) {
         e.clear_migrations();
         e.clear_held();
       }},
      {"migrations", "at most 1000",
       [](auto& e) {
         for (int i = 0; i < 1000; ++i) e.add_migrations(NameOf(i));
       }},
      {"migrations[1]", "twice", [](auto& e) { e.add_migrations(kName); }},
      {"migrations[1]", "full name", [](auto& e) { e.add_migrations("a/b"); }},
      {"held[1].migration", "twice", [](auto& e) { *e.add_held() = e.held(0); }},
      {"held[0].migration", "full name", [](auto& e) { e.mutable_held(0)->set_migration("b"); }},
      {"held", "missing from migrations", [](auto& e) { e.mutable_held(0)->set_migration(NameOf(1)); }},
      {"held", "at most 1000",
       [](auto& e) {
         for (int i = 0; i < 1000; ++i) e.add_held()->set_migration(NameOf(i));
       }},
  };
  for (const auto& test : cases) {
    v1::Enrol enrol = ValidEnrol();
    test.spoil(enrol);
    EXPECT_THAT(EnrolFromProto(enrol).status(), Refuses(test.field, test.description)) << test.field;
  }
}

TEST(AckTest, RefusesRepeatedAndMalformedNames) {
  v1::Ack ack;
  ack.set_revision(3);
  ack.add_held()->set_migration(kName);
  EXPECT_TRUE(AckFromProto(ack).ok());
  ack.add_held()->set_migration(kName);
  EXPECT_THAT(AckFromProto(ack).status(), Refuses("held[1].migration", "twice"));
  ack.mutable_held(1)->clear_migration();
  EXPECT_THAT(AckFromProto(ack).status(), Refuses("held[1].migration", "empty"));
}

TEST(AckTest, RefusesSliceChecksOfNothing) {
  v1::Ack ack;
  ack.add_slice_checks()->set_migration(kName);
  ack.add_slice_checks()->set_migration(kName);
  EXPECT_THAT(AckFromProto(ack).status(), Refuses("slice_checks[1].migration", "twice"));
  ack.mutable_slice_checks(1)->set_migration("a/b");
  EXPECT_THAT(AckFromProto(ack).status(), Refuses("slice_checks[1].migration", "full name"));
  ack.mutable_slice_checks()->RemoveLast();
  ack.mutable_slice_checks(0)->set_example(std::string(1 << 20, 'x'));
  EXPECT_EQ(AckFromProto(ack)->slice_checks[0].example.size(), kMaxSliceExampleBytes);
  Ack long_one;
  long_one.slice_checks.push_back({kName, 1, 1, 0, 1, std::string(5000, 'x') + "\xff", 0});
  EXPECT_EQ(ToProto(long_one).slice_checks(0).example().size(), kMaxSliceExampleBytes);
}

TEST(EnrolTest, LeasesHaveBoundsAndADefault) {
  v1::Enrol enrol = EnrolToProto({.instance_id = "i", .service = "s", .migrations = {kName}}, 1);
  const struct {
    absl::Duration ttl;
    bool valid;
  } cases[] = {{domain::kMinLeaseTtl, true},
               {domain::kMaxLeaseTtl, true},
               {domain::kMinLeaseTtl - absl::Nanoseconds(1), false},
               {domain::kMaxLeaseTtl + absl::Nanoseconds(1), false},
               {absl::ZeroDuration(), false},
               {-absl::Seconds(15), false}};
  for (const auto& test : cases) {
    SCOPED_TRACE(testing::Message() << test.ttl);
    *enrol.mutable_lease_ttl() = ToProto(test.ttl);
    if (test.valid) {
      EXPECT_EQ(EnrolFromProto(enrol)->lease_ttl, test.ttl);
    } else {
      EXPECT_THAT(EnrolFromProto(enrol).status(), Refuses("lease_ttl", "not in [1s, 10m]"));
    }
  }
  enrol.clear_lease_ttl();
  enrol.clear_lease_policy();
  EXPECT_EQ(EnrolFromProto(enrol)->lease_ttl, domain::kDefaultLeaseTtl);
  EXPECT_EQ(EnrolFromProto(enrol)->lease_policy, domain::LeasePolicy::kKeepServing);
  enrol.set_lease_policy(static_cast<v1::LeasePolicy>(9));
  EXPECT_THAT(EnrolFromProto(enrol).status(), Refuses("lease_policy", "9 is not a LeasePolicy"));
}

TEST(StatusTest, RefusesImpossibleDurations) {
  v1::InstanceStatus status;
  status.mutable_oldest_operation()->set_seconds(-1);
  EXPECT_THAT(InstanceStatusFromProto(status).status(), Refuses("oldest_operation", "negative"));
}

TEST(NackTest, LongAndBrokenReasonsSurvive) {
  const v1::Nack nack = MakeNack(7, std::string(5000, 'x') + "\xff");
  EXPECT_EQ(nack.revision(), 7u);
  EXPECT_EQ(nack.reason().size(), 1024u);
  v1::Nack parsed;
  EXPECT_TRUE(parsed.ParseFromString(MakeNack(7, "bad \xff\xfe bytes").SerializeAsString()));
  v1::Nack hostile;
  hostile.set_reason(std::string(1 << 20, 'x'));
  EXPECT_EQ(NackReason(hostile).size(), 1024u);
}

TEST(SnapshotTest, RefusesUnknownEnums) {
  RandomValues random(5, RandomValues::Presence::kEverything);
  v1::Snapshot snapshot = ToProto(random.Snapshot(), 1);
  snapshot.mutable_migrations(0)->mutable_state()->set_stage(static_cast<v1::Stage>(42));
  snapshot.mutable_migrations(0)->mutable_contract()->mutable_fields(0)->set_list_order(
      static_cast<v1::ListOrder>(9));
  EXPECT_THAT(
      ViolatedFields(SnapshotFromProto(snapshot).status()),
      testing::ElementsAre("migrations[0].state.stage", "migrations[0].contract.fields[0].list_order"));
}

TEST(SnapshotTest, PinsTravelSorted) {
  domain::Snapshot snapshot;
  domain::Pins pins;
  for (int i = 0; i < 100; ++i)
    pins.keys.emplace(absl::StrCat(i), i % 2 == 0 ? domain::Side::kOld : domain::Side::kNew);
  snapshot.migrations.push_back({kName, {.pins = std::make_shared<const domain::Pins>(pins)}, {}});
  const v1::Pins out = ToProto(snapshot, 1).migrations(0).state().pins();
  EXPECT_TRUE(std::is_sorted(out.old_keys().begin(), out.old_keys().end()));
  EXPECT_TRUE(std::is_sorted(out.new_keys().begin(), out.new_keys().end()));
  EXPECT_EQ(out.old_keys_size() + out.new_keys_size(), 100);
}

TEST(DecisionTest, RefusesWhatNoServerSends) {
  v1::Decision decision;
  EXPECT_THAT(ViolatedFields(DecisionFromProto(decision, 1).status()),
              testing::ElementsAre("read_side", "write_mode", "reason"));
  decision = ToProto(domain::Decision());
  decision.set_bucket(domain::kBucketCount);
  EXPECT_THAT(DecisionFromProto(decision, 1).status(), Refuses("bucket", "100000"));
}

v1::RouteRequest ValidRoute() {
  v1::RouteRequest out;
  out.set_migration(kName);
  out.set_key(std::string("\0\xff", 2));  // keys are bytes
  (*out.mutable_attributes())["tenant"] = "internal";
  return out;
}

TEST(RouteRequestTest, RefusesEachBadField) {
  EXPECT_TRUE(ValidateRouteRequest(ValidRoute()).ok());
  EXPECT_EQ(AttributesFromProto(ValidRoute().attributes()).at("tenant"), "internal");
  const struct {
    const char* field;
    const char* description;
    std::function<void(v1::RouteRequest&)> spoil;
  } cases[] = {
      {"migration", "empty", [](auto& r) { r.clear_migration(); }},
      {"migration", "full name", [](auto& r) { r.set_migration("a/b"); }},
      {"key", "empty", [](auto& r) { r.clear_key(); }},
      {"key", "1025 bytes; at most 1024", [](auto& r) { r.set_key(std::string(1025, 'x')); }},
      {"attributes", "at most 64",
       [](auto& r) {
         for (int i = 0; i < 64; ++i) (*r.mutable_attributes())[absl::StrCat(i)] = "";
       }},
      {"attributes", "at most 8192",
       [](auto& r) { (*r.mutable_attributes())["big"] = std::string(8192, 'x'); }},
  };
  for (const auto& test : cases) {
    v1::RouteRequest request = ValidRoute();
    test.spoil(request);
    EXPECT_THAT(ValidateRouteRequest(request), Refuses(test.field, test.description));
  }
}

TEST(BatchRouteRequestTest, RefusesEachBadField) {
  v1::BatchRouteRequest good;
  good.set_migration(kName);
  for (int i = 0; i < 1000; ++i) good.add_keys(absl::StrCat(i));
  EXPECT_TRUE(ValidateBatchRouteRequest(good).ok());
  const struct {
    const char* field;
    const char* description;
    std::function<void(v1::BatchRouteRequest&)> spoil;
  } cases[] = {
      {"migration", "empty", [](auto& r) { r.clear_migration(); }},
      {"keys", "empty", [](auto& r) { r.clear_keys(); }},
      {"keys", "at most 1000", [](auto& r) { r.add_keys("x"); }},
      {"keys[999]", "empty", [](auto& r) { r.set_keys(999, ""); }},
      {"keys[3]", "at most 1024", [](auto& r) { r.set_keys(3, std::string(1025, 'x')); }},
      {"attributes", "at most 8192",
       [](auto& r) { (*r.mutable_attributes())["big"] = std::string(8192, 'x'); }},
  };
  for (const auto& test : cases) {
    v1::BatchRouteRequest request = good;
    test.spoil(request);
    EXPECT_THAT(ValidateBatchRouteRequest(request), Refuses(test.field, test.description));
  }
}

}  // namespace
}  // namespace lockstep::wire
