#include "core/wire/status.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "absl/strings/str_cat.h"
#include "core/base/error_info.h"
#include "core/base/prng.h"
#include "google/protobuf/stubs/logging.h"
#include "google/rpc/error_details.pb.h"

namespace lockstep::wire {
namespace {

absl::Status ThereAndBack(const absl::Status& status) {
  return StatusFromWire(static_cast<int>(status.code()), WireMessage(status), StatusDetails(status));
}

TEST(StatusTest, EverythingComesBack) {
  const absl::Status status =
      WithErrorInfo(absl::FailedPreconditionError("the gate holds"),
                    {.reason = "GATE_HOLDS",
                     .metadata = {{"check", "mismatches"}, {"needed", "300"}},
                     .field_violations = {{"plan.steps[2].weight", "falls"}, {"name", "is empty"}},
                     .precondition_violations = {{"GATE_HOLDS", "mismatches", "0.2 % of at most 0.1 %"}}});
  const absl::Status back = ThereAndBack(status);
  EXPECT_EQ(back.code(), status.code());
  EXPECT_EQ(back.message(), status.message());
  EXPECT_EQ(GetErrorInfo(back), GetErrorInfo(status));
}

TEST(StatusTest, DetailsAreTheStandardOnes) {
  const google::rpc::Status rpc = ToRpcStatus(InvalidArgumentWithViolations({{"name", "is empty"}}));
  EXPECT_EQ(rpc.code(), 3);
  EXPECT_EQ(rpc.message(), "name: is empty");
  ASSERT_EQ(rpc.details_size(), 2);
  google::rpc::ErrorInfo info;
  ASSERT_TRUE(rpc.details(0).UnpackTo(&info));
  EXPECT_EQ(info.domain(), "lockstep");
  EXPECT_EQ(info.reason(), "INVALID_ARGUMENT");
  google::rpc::BadRequest bad;
  ASSERT_TRUE(rpc.details(1).UnpackTo(&bad));
  EXPECT_EQ(bad.field_violations(0).field(), "name");
  EXPECT_EQ(rpc.details(1).type_url(), "type.googleapis.com/google.rpc.BadRequest");
}

TEST(StatusTest, EveryCodeHasAReason) {
  for (int code = 1; code <= 16; ++code) {
    const absl::Status status(static_cast<absl::StatusCode>(code), "m");
    const absl::Status back = ThereAndBack(status);
    EXPECT_EQ(back.code(), status.code());
    EXPECT_EQ(GetErrorInfo(back)->reason, absl::StatusCodeToString(status.code()));
  }
  EXPECT_TRUE(ThereAndBack(absl::OkStatus()).ok());
  EXPECT_EQ(StatusDetails(absl::OkStatus()), "");
  EXPECT_EQ(StatusFromWire(77, "m", "").code(), absl::StatusCode::kUnknown);
  EXPECT_EQ(StatusFromWire(-1, "m", "").code(), absl::StatusCode::kUnknown);
}

TEST(StatusTest, FitsIntoMetadata) {
  std::vector<FieldViolation> violations;
  for (int i = 0; i < 100; ++i) violations.push_back({absl::StrCat("f[", i, "]"), std::string(200, 'x')});
  const absl::Status status = InvalidArgumentWithViolations(violations);
  EXPECT_LE(StatusDetails(status).size(), kMaxErrorDetailsBytes);
  const auto info = GetErrorInfo(ThereAndBack(status));
  ASSERT_FALSE(info->field_violations.empty());
  EXPECT_EQ(info->field_violations[0].field, "f[0]");

  const absl::Status long_metadata = WithErrorInfo(
      absl::InternalError(std::string(9000, 'x')),
      {.reason = "R",
       .metadata = {
           {"a", std::string(5000, 'x')}, {"b", std::string(5000, 'x')}, {"c", std::string(5000, 'x')}}});
  EXPECT_LE(StatusDetails(long_metadata).size(), kMaxErrorDetailsBytes);
  EXPECT_EQ(WireMessage(long_metadata).size(), kMaxErrorMessageBytes);
  EXPECT_EQ(GetErrorInfo(ThereAndBack(long_metadata))->reason, "R");
}

TEST(StatusTest, BytesThatAreNotUtf8AreRepaired) {
  const absl::Status status =
      WithErrorInfo(absl::NotFoundError("no \xff here"), {.reason = "R", .metadata = {{"k", "\xc0\x80"}}});
  google::rpc::Status parsed;
  ASSERT_TRUE(parsed.ParseFromString(StatusDetails(status)));
  EXPECT_EQ(parsed.message(), "no \xef\xbf\xbd here");
}

TEST(StatusTest, ForeignOrDamagedDetailsLeaveCodeAndMessage) {
  google::rpc::Status foreign;
  google::rpc::ErrorInfo info;
  info.set_domain("example.com");
  info.set_reason("R");
  foreign.add_details()->PackFrom(info);
  for (const std::string& details : {std::string(), std::string("\xff\xff"), foreign.SerializeAsString()}) {
    const absl::Status status = StatusFromWire(5, "not there", details);
    EXPECT_EQ(status, absl::NotFoundError("not there"));
  }
  const google::protobuf::LogSilencer silencer;  // it reports every string that is not UTF-8
  const uint64_t seed = 9;
  SCOPED_TRACE(testing::Message() << "seed " << seed);
  Prng prng(seed);
  const std::string good = StatusDetails(InvalidArgumentWithViolations({{"name", "is empty"}}));
  for (int i = 0; i < 20000; ++i) {
    std::string bytes = good;
    for (uint64_t n = 1 + prng.Below(4); n > 0; --n)
      bytes[prng.Below(bytes.size())] = static_cast<char>(prng.Next());
    bytes.resize(prng.Below(bytes.size() + 1));
    EXPECT_EQ(StatusFromWire(3, "m", bytes).code(), absl::StatusCode::kInvalidArgument);
  }
}

}  // namespace
}  // namespace lockstep::wire
