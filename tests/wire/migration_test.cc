#include "core/wire/migration.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <functional>
#include <limits>

#include "absl/strings/str_cat.h"
#include "google/protobuf/text_format.h"
#include "tests/wire/random_values.h"
#include "tests/wire/violation_matchers.h"

namespace lockstep::wire {
namespace {

using ::testing::ElementsAre;
using ::testing::IsEmpty;
using ::testing::UnorderedElementsAre;

v1::Migration ValidMigration() {
  v1::Migration out;
  const bool parsed = google::protobuf::TextFormat::ParseFromString(
      R"pb(
        description: "Orders to the new schema"
        labels { key: "team" value: "orders" }
        owners: "ann@host"
        plan {
          steps {
            stage: STAGE_DUAL_WRITE
            min_bake { seconds: 60 }
          }
          steps {
            stage: STAGE_SHADOW_READ
            checks { name: "mismatches" metric: METRIC_MISMATCH_RATIO budget: 0.001 }
            checks { name: "city" metric: METRIC_MISMATCH_RATIO budget: 0.001 field: "address.city" }
          }
          steps {
            stage: STAGE_CANARY_READ
            weight: 1000
            checks { name: "errors" metric: METRIC_ERROR_RATIO floor: 0.01 on_breach: BREACH_ACTION_PAUSE }
          }
          expected_services { service: "orders" min_instances: 2 }
        }
        contract {
          fields { path: "address.city" tolerance: 0.5 default_value: "" list_order: LIST_ORDER_UNORDERED }
          fields { path: "note" ignore: true }
        }
        pins {
          old_keys: "vip-1"
          new_keys: "internal-1"
          rules { attribute: "tenant" values: "internal" side: SIDE_NEW }
        }
      )pb",
      &out);
  EXPECT_TRUE(parsed);
  return out;
}

TEST(MigrationFromProtoTest, TakesTheWholeDefinition) {
  const auto migration = MigrationFromProto(ValidMigration());
  ASSERT_TRUE(migration.ok()) << migration.status();
  EXPECT_EQ(migration->description, "Orders to the new schema");
  EXPECT_EQ(migration->labels.at("team"), "orders");
  EXPECT_THAT(migration->owners, ElementsAre("ann@host"));
  ASSERT_EQ(migration->plan.steps.size(), 3u);
  EXPECT_EQ(migration->plan.steps[0].min_bake, absl::Minutes(1));
  EXPECT_EQ(migration->plan.steps[2].weight, 1000u);
  EXPECT_EQ(migration->plan.steps[2].checks[0].on_breach, domain::BreachAction::kPause);
  EXPECT_EQ(migration->plan.steps[1].checks[0].on_breach, domain::BreachAction::kRollback);
  EXPECT_EQ(migration->plan.alpha_advance, 0.01);
  EXPECT_TRUE(migration->contract.fields[0].has_default);
  EXPECT_FALSE(migration->contract.fields[1].has_default);
  EXPECT_EQ(migration->contract.fields[1].list_order, domain::ListOrder::kOrdered);
  EXPECT_EQ(migration->contract.revision, 1u);
  EXPECT_EQ(migration->pins.keys.at("vip-1"), domain::Side::kOld);
  EXPECT_EQ(migration->salt, "");
}

TEST(MigrationFromProtoTest, IgnoresOutputOnlyFields) {
  v1::Migration message = ValidMigration();
  message.set_uid("uid");
  message.set_etag("no etag");
  message.set_run_state(v1::RUN_STATE_RUNNING);
  message.set_run_state_reason("because");
  message.set_step(99);
  message.mutable_routing()->set_epoch(7);
  message.mutable_routing()->set_stage(static_cast<v1::Stage>(77));
  message.mutable_create_time()->set_nanos(-1);
  message.mutable_contract()->set_revision(9);
  const auto migration = MigrationFromProto(message);
  ASSERT_TRUE(migration.ok()) << migration.status();
  EXPECT_EQ(Difference(ToRecord(*migration), ToRecord(*MigrationFromProto(ValidMigration()))), "");
}

struct Case {
  absl::string_view field;
  absl::string_view description;
  std::function<void(v1::Migration&)> spoil;
};

std::string Repeat(size_t count) { return std::string(count, 'x'); }

std::vector<Case> Cases() {
  constexpr double kNan = std::numeric_limits<double>::quiet_NaN();
  return {
      {"name", "not a full name", [](v1::Migration& m) { m.set_name("ns/m"); }},
      {"name", "namespace", [](v1::Migration& m) { m.set_name("namespaces/N/migrations/m"); }},
      {"description", "at most 4096", [](v1::Migration& m) { m.set_description(Repeat(4097)); }},
      {"labels", "65 entries",
       [](v1::Migration& m) {
         for (int i = 0; i < 64; ++i) (*m.mutable_labels())[absl::StrCat("l", i)] = "";
       }},
      {"labels", "empty key", [](v1::Migration& m) { (*m.mutable_labels())[""] = "x"; }},
      {"labels", "64 characters", [](v1::Migration& m) { (*m.mutable_labels())[Repeat(64)] = "x"; }},
      {"labels[\"team\"]", "at most 63",
       [](v1::Migration& m) { (*m.mutable_labels())["team"] = Repeat(64); }},
      {"owners", "at most 64",
       [](v1::Migration& m) {
         for (int i = 0; i < 64; ++i) m.add_owners("o");
       }},
      {"owners[1]", "is empty", [](v1::Migration& m) { m.add_owners(""); }},
      {"owners[0]", "at most 256", [](v1::Migration& m) { m.set_owners(0, Repeat(257)); }},
      {"salt", "at most 256", [](v1::Migration& m) { m.set_salt(Repeat(257)); }},
      {"plan.steps", "is empty", [](v1::Migration& m) { m.mutable_plan()->clear_steps(); }},
      {"plan.steps[0].stage", "is not set",
       [](v1::Migration& m) { m.mutable_plan()->mutable_steps(0)->clear_stage(); }},
      {"plan.steps[0].stage", "77 is not a Stage",
       [](v1::Migration& m) { m.mutable_plan()->mutable_steps(0)->set_stage(static_cast<v1::Stage>(77)); }},
      {"plan.steps[0].stage", "skips DUAL_WRITE",
       [](v1::Migration& m) { m.mutable_plan()->mutable_steps(0)->set_stage(v1::STAGE_SHADOW_READ); }},
      {"plan.steps[2].weight", "100001",
       [](v1::Migration& m) { m.mutable_plan()->mutable_steps(2)->set_weight(100001); }},
      {"plan.steps[3].weight", "never fall",
       [](v1::Migration& m) {
         *m.mutable_plan()->add_steps() = m.plan().steps(2);
         m.mutable_plan()->mutable_steps(3)->set_weight(999);
       }},
      {"plan.steps[0].min_bake", "negative",
       [](v1::Migration& m) { m.mutable_plan()->mutable_steps(0)->mutable_min_bake()->set_seconds(-1); }},
      {"plan.steps[0].min_bake", "nanos",
       [](v1::Migration& m) {
         m.mutable_plan()->mutable_steps(0)->mutable_min_bake()->set_nanos(1'000'000'000);
       }},
      {"plan.steps[0].min_bake", "10000 years",
       [](v1::Migration& m) {
         m.mutable_plan()->mutable_steps(0)->mutable_min_bake()->set_seconds(
             std::numeric_limits<int64_t>::max());
       }},
      {"plan.cool_down", "differ in sign",
       [](v1::Migration& m) {
         m.mutable_plan()->mutable_cool_down()->set_seconds(1);
         m.mutable_plan()->mutable_cool_down()->set_nanos(-1);
       }},
      {"plan.steps[1].checks[0].name", "is empty",
       [](v1::Migration& m) { m.mutable_plan()->mutable_steps(1)->mutable_checks(0)->clear_name(); }},
      {"plan.steps[1].checks[0].name", "other characters",
       [](v1::Migration& m) { m.mutable_plan()->mutable_steps(1)->mutable_checks(0)->set_name("A b"); }},
      {"plan.steps[1].checks[0].name", "at most 63",
       [](v1::Migration& m) { m.mutable_plan()->mutable_steps(1)->mutable_checks(0)->set_name(Repeat(64)); }},
      {"plan.steps[1].checks[1].name", "twice",
       [](v1::Migration& m) {
         m.mutable_plan()->mutable_steps(1)->mutable_checks(1)->set_name("mismatches");
       }},
      {"plan.steps[1].checks[0].metric", "is not set",
       [](v1::Migration& m) { m.mutable_plan()->mutable_steps(1)->mutable_checks(0)->clear_metric(); }},
      {"plan.steps[1].checks[0].on_breach", "9 is not a BreachAction",
       [](v1::Migration& m) {
         m.mutable_plan()->mutable_steps(1)->mutable_checks(0)->set_on_breach(
             static_cast<v1::BreachAction>(9));
       }},
      {"plan.steps[1].checks[0].budget", "0",
       [](v1::Migration& m) { m.mutable_plan()->mutable_steps(1)->mutable_checks(0)->set_budget(0); }},
      {"plan.steps[1].checks[0].budget", "nan",
       [](v1::Migration& m) { m.mutable_plan()->mutable_steps(1)->mutable_checks(0)->set_budget(kNan); }},
      {"plan.steps[2].checks[0].floor", "nan",
       [](v1::Migration& m) { m.mutable_plan()->mutable_steps(2)->mutable_checks(0)->set_floor(kNan); }},
      {"plan.steps[1].checks[1].field", "not a field of the contract",
       [](v1::Migration& m) { m.mutable_plan()->mutable_steps(1)->mutable_checks(1)->set_field("street"); }},
      {"plan.steps[1].checks[1].field", "ignores",
       [](v1::Migration& m) { m.mutable_plan()->mutable_steps(1)->mutable_checks(1)->set_field("note"); }},
      {"plan.steps[1].checks[0].quantile", "no quantile",
       [](v1::Migration& m) { m.mutable_plan()->mutable_steps(1)->mutable_checks(0)->set_quantile(0.5); }},
      {"plan.steps[1].checks[0].limit", "no limit",
       [](v1::Migration& m) { m.mutable_plan()->mutable_steps(1)->mutable_checks(0)->set_limit(kNan); }},
      {"plan.steps[2].checks[0].quantile", "is missing",
       [](v1::Migration& m) {
         m.mutable_plan()->mutable_steps(2)->mutable_checks(0)->set_metric(v1::METRIC_LATENCY);
       }},
      {"plan.steps[2].checks[0].limit", "not in (0, 1]",
       [](v1::Migration& m) {
         v1::Check* check = m.mutable_plan()->mutable_steps(2)->mutable_checks(0);
         check->set_metric(v1::METRIC_COVERAGE);
         check->clear_floor();
         check->set_limit(2);
       }},
      {"plan.steps[0].deadline", "is negative",
       [](v1::Migration& m) { m.mutable_plan()->mutable_steps(0)->mutable_deadline()->set_seconds(-1); }},
      {"plan.steps[0].deadline", "before the end of min_bake",
       [](v1::Migration& m) { m.mutable_plan()->mutable_steps(0)->mutable_deadline()->set_seconds(59); }},
      {"plan.steps[0].deadline", "nanos",
       [](v1::Migration& m) {
         m.mutable_plan()->mutable_steps(0)->mutable_deadline()->set_nanos(1'000'000'000);
       }},
      {"plan.telemetry_limits.max_not_comparable", "(0, 1]",
       [](v1::Migration& m) { m.mutable_plan()->mutable_telemetry_limits()->set_max_not_comparable(1.5); }},
      {"plan.telemetry_limits.max_not_comparable", "nan",
       [](v1::Migration& m) { m.mutable_plan()->mutable_telemetry_limits()->set_max_not_comparable(kNan); }},
      {"plan.telemetry_limits.max_share_skew", "0.5",
       [](v1::Migration& m) { m.mutable_plan()->mutable_telemetry_limits()->set_max_share_skew(0.5); }},
      {"plan.telemetry_limits.stale_after", "above zero",
       [](v1::Migration& m) { m.mutable_plan()->mutable_telemetry_limits()->mutable_stale_after(); }},
      {"plan.telemetry_limits.stale_after", "is negative",
       [](v1::Migration& m) {
         m.mutable_plan()->mutable_telemetry_limits()->mutable_stale_after()->set_seconds(-5);
       }},
      {"plan.alpha_rollback", "0.6", [](v1::Migration& m) { m.mutable_plan()->set_alpha_rollback(0.6); }},
      {"plan.alpha_advance", "nan", [](v1::Migration& m) { m.mutable_plan()->set_alpha_advance(kNan); }},
      {"plan.expected_services[0].service", "is empty",
       [](v1::Migration& m) { m.mutable_plan()->mutable_expected_services(0)->clear_service(); }},
      {"plan.expected_services[0].service", "at most 63",
       [](v1::Migration& m) { m.mutable_plan()->mutable_expected_services(0)->set_service(Repeat(64)); }},
      {"plan.expected_services[0].min_instances", "0",
       [](v1::Migration& m) { m.mutable_plan()->mutable_expected_services(0)->clear_min_instances(); }},
      {"contract.fields", "at most 512",
       [](v1::Migration& m) {
         for (int i = 0; i < 512; ++i) m.mutable_contract()->add_fields()->set_path(absl::StrCat("f", i));
       }},
      {"contract.fields[1].path", "is empty",
       [](v1::Migration& m) { m.mutable_contract()->mutable_fields(1)->clear_path(); }},
      {"contract.fields[1].path", "twice",
       [](v1::Migration& m) { m.mutable_contract()->mutable_fields(1)->set_path("address.city"); }},
      {"contract.fields[1].path", "at most 256",
       [](v1::Migration& m) { m.mutable_contract()->mutable_fields(1)->set_path(Repeat(257)); }},
      {"contract.fields[1].old_path", "at most 256",
       [](v1::Migration& m) { m.mutable_contract()->mutable_fields(1)->set_old_path(Repeat(257)); }},
      {"contract.fields[1].new_path", "at most 256",
       [](v1::Migration& m) { m.mutable_contract()->mutable_fields(1)->set_new_path(Repeat(257)); }},
      {"contract.fields[1].tolerance", "finite",
       [](v1::Migration& m) { m.mutable_contract()->mutable_fields(1)->set_tolerance(kNan); }},
      {"contract.fields[1].tolerance", "-1",
       [](v1::Migration& m) { m.mutable_contract()->mutable_fields(1)->set_tolerance(-1); }},
      {"contract.fields[1].default_value", "at most 1024",
       [](v1::Migration& m) { m.mutable_contract()->mutable_fields(1)->set_default_value(Repeat(1025)); }},
      {"contract.fields[1].list_order", "3 is not a ListOrder",
       [](v1::Migration& m) {
         m.mutable_contract()->mutable_fields(1)->set_list_order(static_cast<v1::ListOrder>(3));
       }},
      {"pins.new_keys[1]", "both sides", [](v1::Migration& m) { m.mutable_pins()->add_new_keys("vip-1"); }},
      {"pins.old_keys[1]", "twice", [](v1::Migration& m) { m.mutable_pins()->add_old_keys("vip-1"); }},
      {"pins.old_keys[1]", "is empty", [](v1::Migration& m) { m.mutable_pins()->add_old_keys(""); }},
      {"pins.old_keys[1]", "at most 1024",
       [](v1::Migration& m) { m.mutable_pins()->add_old_keys(Repeat(1025)); }},
      {"pins", "at most 100000",
       [](v1::Migration& m) {
         for (int i = 0; i < 99999; ++i) m.mutable_pins()->add_new_keys(absl::StrCat(i));
       }},
      {"pins", "bytes",
       [](v1::Migration& m) {
         for (int i = 0; i < 1100; ++i) m.mutable_pins()->add_new_keys(absl::StrCat(i, Repeat(1000)));
       }},
      {"pins.rules", "at most 64",
       [](v1::Migration& m) {
         for (int i = 0; i < 64; ++i) *m.mutable_pins()->add_rules() = m.pins().rules(0);
       }},
      {"pins.rules[0].attribute", "is empty",
       [](v1::Migration& m) { m.mutable_pins()->mutable_rules(0)->clear_attribute(); }},
      {"pins.rules[0].attribute", "at most 256",
       [](v1::Migration& m) { m.mutable_pins()->mutable_rules(0)->set_attribute(Repeat(257)); }},
      {"pins.rules[0].values", "is empty",
       [](v1::Migration& m) { m.mutable_pins()->mutable_rules(0)->clear_values(); }},
      {"pins.rules[0].values[0]", "at most 1024",
       [](v1::Migration& m) { m.mutable_pins()->mutable_rules(0)->set_values(0, Repeat(1025)); }},
      {"pins.rules[0].side", "is not set",
       [](v1::Migration& m) { m.mutable_pins()->mutable_rules(0)->clear_side(); }},
  };
}

TEST(MigrationFromProtoTest, RefusesEachBadField) {
  for (const Case& test : Cases()) {
    SCOPED_TRACE(absl::StrCat(test.field, ": ", test.description));
    v1::Migration message = ValidMigration();
    test.spoil(message);
    EXPECT_THAT(MigrationFromProto(message).status(),
                Refuses(std::string(test.field), std::string(test.description)));
  }
}

TEST(MigrationFromProtoTest, ReportsEverythingAtOnce) {
  v1::Migration message = ValidMigration();
  message.set_description(Repeat(5000));
  message.mutable_plan()->mutable_steps(1)->mutable_checks(0)->set_budget(0);
  message.mutable_contract()->mutable_fields(1)->clear_path();
  message.mutable_pins()->add_old_keys("");
  EXPECT_THAT(ViolatedFields(MigrationFromProto(message).status()),
              UnorderedElementsAre("description", "plan.steps[1].checks[0].budget", "contract.fields[1].path",
                                   "pins.old_keys[1]"));
}

TEST(MigrationFromProtoTest, TelemetryLimitsHaveDefaults) {
  v1::Migration message = ValidMigration();
  EXPECT_EQ(MigrationFromProto(message)->plan.telemetry_limits, domain::TelemetryLimits());
  message.mutable_plan()->mutable_telemetry_limits()->set_max_share_skew(5);
  const domain::TelemetryLimits limits = MigrationFromProto(message)->plan.telemetry_limits;
  EXPECT_EQ(limits.max_share_skew, 5);
  EXPECT_EQ(limits.max_not_comparable, domain::TelemetryLimits().max_not_comparable);
  EXPECT_EQ(limits.stale_after, domain::TelemetryLimits().stale_after);
  const v1::Plan shown = ToProto(*MigrationFromProto(message)).plan();
  EXPECT_EQ(shown.telemetry_limits().max_not_comparable(), 0.1) << "what holds is shown";
  EXPECT_EQ(shown.telemetry_limits().stale_after().seconds(), 60);
}

TEST(CreateFromProtoTest, MakesTheName) {
  v1::CreateMigrationRequest request;
  request.set_parent("namespaces/shop");
  request.set_migration_id("orders");
  *request.mutable_migration() = ValidMigration();
  request.set_request_id("F81D4FAE-7DEC-41D0-A765-00A0C91E6BF6");
  request.set_validate_only(true);
  const auto create = CreateFromProto(request);
  ASSERT_TRUE(create.ok()) << create.status();
  EXPECT_EQ(create->migration.name, "namespaces/shop/migrations/orders");
  EXPECT_EQ(create->options.request_id, "f81d4fae-7dec-41d0-a765-00a0c91e6bf6");
  EXPECT_TRUE(create->options.validate_only);
  request.mutable_migration()->set_name(create->migration.name);
  EXPECT_TRUE(CreateFromProto(request).ok());
  request.mutable_migration()->set_name("namespaces/shop/migrations/other");
  EXPECT_THAT(CreateFromProto(request).status(), Refuses("name", "differs"));
}

TEST(CreateFromProtoTest, ReportsTheWholeRequest) {
  v1::CreateMigrationRequest request;
  request.set_parent("shop");
  request.set_migration_id("Orders");
  request.set_request_id("1");
  EXPECT_THAT(ViolatedFields(CreateFromProto(request).status()),
              UnorderedElementsAre("parent", "migration_id", "migration", "request_id"));
}

TEST(ApplyUpdateMaskTest, TouchesOnlyWhatTheMaskNames) {
  const domain::Migration before = *MigrationFromProto(ValidMigration());
  v1::Migration from;  // no plan: it isn't in the mask
  from.set_description("new");
  from.add_owners("bob@host");
  google::protobuf::FieldMask mask;
  mask.add_paths("description");
  domain::Migration to = before;
  ASSERT_TRUE(ApplyUpdateMask(mask, from, &to).ok());
  EXPECT_EQ(to.description, "new");
  EXPECT_EQ(to.owners, before.owners);
  EXPECT_EQ(to.plan, before.plan);
}

TEST(ApplyUpdateMaskTest, EveryFieldAlone) {
  RandomValues random(7, RandomValues::Presence::kEverything);
  const domain::Migration before = *MigrationFromProto(ValidMigration());
  v1::Migration from = ValidMigration();
  from.set_description("changed");
  (*from.mutable_labels())["changed"] = "yes";
  from.add_owners("changed");
  from.mutable_plan()->mutable_cool_down()->set_seconds(99);
  from.mutable_contract()->add_fields()->set_path("changed");
  from.mutable_pins()->add_new_keys("changed");
  for (const char* path : {"description", "labels", "owners", "plan", "contract", "pins"}) {
    SCOPED_TRACE(path);
    google::protobuf::FieldMask mask;
    mask.add_paths(path);
    domain::Migration to = before;
    to.contract.revision = 5;
    ASSERT_TRUE(ApplyUpdateMask(mask, from, &to).ok());
    EXPECT_EQ(to.contract.revision, 5u) << "raised by the caller";
    const std::string difference = Difference(ToProto(before), ToProto(to));
    EXPECT_NE(difference.find(absl::StrCat(path)), std::string::npos) << difference;
    for (const char* other :
         {"description", "labels", "owners", "plan.cool_down", "contract.fields", "pins"}) {
      const bool same = absl::string_view(other).substr(0, 4) == absl::string_view(path).substr(0, 4);
      EXPECT_EQ(difference.find(other) != std::string::npos, same) << other << "\n" << difference;
    }
  }
}

TEST(ApplyUpdateMaskTest, EmptyAndStarReplaceEverything) {
  for (const bool star : {false, true}) {
    google::protobuf::FieldMask mask;
    if (star) mask.add_paths("*");
    domain::Migration to = *MigrationFromProto(ValidMigration());
    to.name = "namespaces/shop/migrations/orders";
    to.salt = "s";
    v1::Migration from;
    from.mutable_plan()->add_steps()->set_stage(v1::STAGE_DUAL_WRITE);
    ASSERT_TRUE(ApplyUpdateMask(mask, from, &to).ok());
    EXPECT_EQ(to.description, "");
    EXPECT_THAT(to.labels, IsEmpty());
    EXPECT_THAT(to.owners, IsEmpty());
    EXPECT_EQ(to.plan.steps.size(), 1u);
    EXPECT_THAT(to.contract.fields, IsEmpty());
    EXPECT_TRUE(to.pins.empty());
    EXPECT_EQ(to.name, "namespaces/shop/migrations/orders");
    EXPECT_EQ(to.salt, "s");
    from.set_salt("s");
    EXPECT_TRUE(ApplyUpdateMask(mask, from, &to).ok());
    from.set_salt("other");
    EXPECT_THAT(ApplyUpdateMask(mask, from, &to), Refuses("salt", "immutable"));
  }
}

TEST(ApplyUpdateMaskTest, RefusesOtherPaths) {
  const struct {
    const char* path;
    const char* why;
  } cases[] = {
      {"colour", "not a field"},      {"", "not a field"},           {"name", "immutable"},
      {"salt", "immutable"},          {"uid", "output only"},        {"etag", "output only"},
      {"run_state", "output only"},   {"routing", "output only"},    {"routing.stage", "output only"},
      {"plan.steps", "as a whole"},   {"labels.team", "as a whole"}, {"gate", "output only"},
      {"create_time", "output only"}, {"step", "output only"},       {"waiting_for", "output only"},
  };
  for (const auto& test : cases) {
    SCOPED_TRACE(test.path);
    google::protobuf::FieldMask mask;
    mask.add_paths("description");
    mask.add_paths(test.path);
    domain::Migration to;
    const absl::Status status = ApplyUpdateMask(mask, ValidMigration(), &to);
    EXPECT_THAT(status, Refuses("update_mask.paths[1]", test.why));
    EXPECT_EQ(to.description, "");
  }
  google::protobuf::FieldMask mask;
  mask.add_paths("plan");
  mask.add_paths("*");
  domain::Migration to;
  EXPECT_THAT(ApplyUpdateMask(mask, ValidMigration(), &to), Refuses("update_mask.paths[1]", "alone"));
}

TEST(ApplyUpdateMaskTest, PlanAndContractAreJudgedTogether) {
  domain::Migration to = *MigrationFromProto(ValidMigration());
  v1::Migration from;
  from.mutable_contract()->add_fields()->set_path("street");
  google::protobuf::FieldMask mask;
  mask.add_paths("contract");
  EXPECT_THAT(ApplyUpdateMask(mask, from, &to),
              Refuses("plan.steps[1].checks[1].field", "'address.city' is not a field of the contract"));
  EXPECT_EQ(to.contract.fields.size(), 2u) << "unchanged on an error";
}

TEST(UpdateFromProtoTest, ChecksTheRequest) {
  v1::UpdateMigrationRequest request;
  request.mutable_migration()->set_name("namespaces/shop/migrations/orders");
  request.mutable_migration()->set_etag("12");
  request.mutable_update_mask()->add_paths("plan");
  const auto update = UpdateFromProto(request);
  ASSERT_TRUE(update.ok()) << update.status();
  EXPECT_EQ(update->options.expected_version, 12u);
  EXPECT_EQ(update->name, "namespaces/shop/migrations/orders");

  request.mutable_migration()->set_name("orders");
  request.mutable_migration()->set_etag("twelve");
  request.set_request_id("x");
  request.mutable_update_mask()->add_paths("uid");
  EXPECT_THAT(ViolatedFields(UpdateFromProto(request).status()),
              ElementsAre("migration.name", "migration.etag", "request_id", "update_mask.paths[1]"));
}

TEST(MigrationRecordTest, RefusesWhatNobodyWrote) {
  RandomValues random(3, RandomValues::Presence::kEverything);
  const storage::v1::MigrationRecord good = ToRecord(random.Migration());
  const struct {
    const char* field;
    std::function<void(storage::v1::MigrationRecord&)> spoil;
  } cases[] = {
      {"migration.name", [](auto& r) { r.mutable_migration()->clear_name(); }},
      {"migration.run_state", [](auto& r) { r.mutable_migration()->clear_run_state(); }},
      {"migration.routing.stage", [](auto& r) { r.mutable_migration()->clear_routing(); }},
      {"migration.pending_routing.stage",
       [](auto& r) { r.mutable_migration()->mutable_pending_routing()->clear_stage(); }},
      {"migration.step", [](auto& r) { r.mutable_migration()->set_step(4); }},
      {"migration.create_time", [](auto& r) { r.mutable_migration()->mutable_create_time()->set_nanos(-1); }},
      {"rollback_time", [](auto& r) { r.mutable_rollback_time()->set_seconds(int64_t{1} << 60); }},
      {"deadline_from_time", [](auto& r) { r.mutable_deadline_from_time()->set_nanos(-1); }},
      {"draining[0].stage", [](auto& r) { r.mutable_draining(0)->set_stage(static_cast<v1::Stage>(8)); }},
  };
  for (const auto& test : cases) {
    storage::v1::MigrationRecord record = good;
    test.spoil(record);
    EXPECT_THAT(MigrationFromRecord(record).status(), Refuses(test.field, ""));
  }
}

}  // namespace
}  // namespace lockstep::wire
