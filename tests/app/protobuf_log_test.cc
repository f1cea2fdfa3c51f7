#include "server/app/protobuf_log.h"

#include <google/protobuf/struct.pb.h>
#include <gtest/gtest.h>

#include <string>

#include "absl/strings/match.h"

namespace lockstep::app {
namespace {

TEST(ProtobufLog, AClientCannotFloodStandardError) {
  InstallProtobufLogHandler();
  // google.protobuf.Value with string_value "\xff".
  const std::string not_utf8 = "\x1a\x01\xff";
  ::testing::internal::CaptureStderr();
  for (int i = 0; i < 1000; ++i) {
    google::protobuf::Value value;
    value.ParseFromString(not_utf8);
  }
  const std::string output = ::testing::internal::GetCapturedStderr();
  EXPECT_TRUE(absl::StrContains(output, "UTF-8")) << output;
  EXPECT_TRUE(absl::StrContains(output, "\"msg\":\"protobuf\"")) << output;
  EXPECT_EQ(output.find('\n'), output.size() - 1) << output;
}

}  // namespace
}  // namespace lockstep::app
