#include "core/wire/request.h"

#include <gtest/gtest.h>

#include "core/base/prng.h"
#include "tests/wire/violation_matchers.h"

namespace lockstep::wire {
namespace {

using ::testing::ElementsAre;

absl::Status RequestIdStatus(absl::string_view id) {
  Violations violations;
  const FieldPath root;
  ReadRequestId(id, root / "request_id", violations);
  return violations.ToStatus();
}

TEST(RequestIdTest, EmptyAndUuid4Only) {
  Prng prng(1);
  EXPECT_TRUE(RequestIdStatus("").ok());
  for (int i = 0; i < 100; ++i) EXPECT_TRUE(RequestIdStatus(prng.Uuid()).ok());
  for (const char* bad : {" ", "f81d4fae-7dec-11d0-a765-00a0c91e6bf6",  // version 1
                          "f81d4fae-7dec-41d0-c765-00a0c91e6bf6",       // another variant
                          "f81d4fae7dec41d0a76500a0c91e6bf6", "{f81d4fae-7dec-41d0-a765-00a0c91e6bf6}",
                          "f81d4fae-7dec-41d0-a765-00a0c91e6bf", "g81d4fae-7dec-41d0-a765-00a0c91e6bf6",
                          "f81d4fae-7dec-41d0-a765-00a0c91e6bf6\n", "f81d4fae_7dec-41d0-a765-00a0c91e6bf6"}) {
    EXPECT_THAT(RequestIdStatus(bad), Refuses("request_id", "UUID of version 4")) << bad;
  }
}

TEST(EtagTest, OnlyTheDecimalForm) {
  Violations violations;
  const FieldPath root;
  EXPECT_EQ(ReadEtag("", root / "etag", violations), std::nullopt);
  EXPECT_EQ(ReadEtag(EtagOf(0), root / "etag", violations), 0u);
  EXPECT_EQ(ReadEtag(EtagOf(~uint64_t{0}), root / "etag", violations), ~uint64_t{0});
  EXPECT_TRUE(violations.empty());
  for (const char* bad : {"-1", "+1", "01", "1 ", "0x1", "18446744073709551616", "W/\"1\"", "one"}) {
    Violations found;
    ReadEtag(bad, root / "etag", found);
    EXPECT_THAT(found.ToStatus(), Refuses("etag", "not an etag of this server")) << bad;
  }
}

template <typename Request>
void ExpectStateChange(domain::CommandKind kind) {
  Request request;
  request.set_name("namespaces/a/migrations/b");
  request.mutable_change()->set_etag("3");
  request.mutable_change()->set_request_id("f81d4fae-7dec-41d0-a765-00a0c91e6bf6");
  request.mutable_change()->set_validate_only(true);
  request.mutable_change()->set_reason("because");
  const auto change = StateChangeFromProto(request);
  ASSERT_TRUE(change.ok()) << change.status();
  EXPECT_EQ(change->name, "namespaces/a/migrations/b");
  EXPECT_EQ(change->command.kind, kind);
  EXPECT_EQ(change->command.reason, "because");
  EXPECT_FALSE(change->command.override_gate);
  EXPECT_EQ(change->options.expected_version, 3u);
  EXPECT_EQ(change->options.request_id, "f81d4fae-7dec-41d0-a765-00a0c91e6bf6");
  EXPECT_TRUE(change->options.validate_only);
  EXPECT_EQ(change->options.reason, "because");

  request.set_name("b");
  request.mutable_change()->set_etag("x");
  request.mutable_change()->set_request_id("x");
  request.mutable_change()->set_reason(std::string(1025, 'x'));
  EXPECT_THAT(ViolatedFields(StateChangeFromProto(request).status()),
              ElementsAre("name", "change.etag", "change.request_id", "change.reason"));
}

TEST(StateChangeTest, EveryCommand) {
  ExpectStateChange<v1::StartMigrationRequest>(domain::CommandKind::kStart);
  ExpectStateChange<v1::AdvanceMigrationRequest>(domain::CommandKind::kAdvance);
  ExpectStateChange<v1::PauseMigrationRequest>(domain::CommandKind::kPause);
  ExpectStateChange<v1::ResumeMigrationRequest>(domain::CommandKind::kResume);
  ExpectStateChange<v1::RollbackMigrationRequest>(domain::CommandKind::kRollback);
  ExpectStateChange<v1::AbortMigrationRequest>(domain::CommandKind::kAbort);
  ExpectStateChange<v1::SetMigrationWeightRequest>(domain::CommandKind::kSetWeight);
}

TEST(StateChangeTest, WeightAndOverride) {
  v1::SetMigrationWeightRequest set_weight;
  set_weight.set_name("namespaces/a/migrations/b");
  set_weight.set_weight(123);
  set_weight.set_override_gate(true);
  EXPECT_EQ(StateChangeFromProto(set_weight)->command.weight, 123u);
  EXPECT_TRUE(StateChangeFromProto(set_weight)->command.override_gate);
  v1::AdvanceMigrationRequest advance;
  advance.set_name("namespaces/a/migrations/b");
  advance.set_override_gate(true);
  EXPECT_TRUE(StateChangeFromProto(advance)->command.override_gate);
  EXPECT_FALSE(StateChangeFromProto(advance)->command.accept_no_way_back);
  advance.set_accept_no_way_back(true);
  EXPECT_TRUE(StateChangeFromProto(advance)->command.accept_no_way_back);
  v1::RollbackMigrationRequest rollback;
  rollback.set_name("namespaces/a/migrations/b");
  EXPECT_FALSE(StateChangeFromProto(rollback)->command.accept_differences);
  rollback.set_accept_differences(true);
  EXPECT_TRUE(StateChangeFromProto(rollback)->command.accept_differences);
}

TEST(DeleteTest, ChecksEveryField) {
  v1::DeleteMigrationRequest request;
  request.set_name("namespaces/a/migrations/b");
  request.set_etag("3");
  request.set_validate_only(true);
  const auto wanted = DeleteFromProto(request);
  ASSERT_TRUE(wanted.ok()) << wanted.status();
  EXPECT_EQ(wanted->options.expected_version, 3u);
  EXPECT_TRUE(wanted->options.validate_only);
  request.set_name("");
  request.set_etag("x");
  request.set_request_id("x");
  EXPECT_THAT(ViolatedFields(DeleteFromProto(request).status()), ElementsAre("name", "etag", "request_id"));
}

}  // namespace
}  // namespace lockstep::wire
