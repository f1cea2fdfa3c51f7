#include "client/cli/settings.h"

#include <cstdio>
#include <fstream>
#include <sstream>
#include <string>

#include "absl/strings/str_cat.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace lockstep::cli {
namespace {

using ::testing::HasSubstr;

class SettingsTest : public testing::Test {
 protected:
  ~SettingsTest() override { std::remove(path_.c_str()); }

  absl::StatusOr<Settings> Resolve(const GlobalFlags& flags) {
    const Streams streams{.in = in_, .out = out_, .err = out_, .environment = environment_};
    return ResolveSettings(flags, streams);
  }
  void WriteContext(const std::string& text) {
    std::ofstream(path_) << text;
    environment_["LOCKSTEP_CONFIG"] = path_;
  }
  std::string Error() { return std::string(Resolve({}).status().message()); }

  const std::string path_ = absl::StrCat(
      testing::TempDir(), testing::UnitTest::GetInstance()->current_test_info()->name(), "-config.yaml");
  std::istringstream in_;
  std::ostringstream out_;
  std::map<std::string, std::string> environment_;
};

TEST_F(SettingsTest, Precedence) {
  EXPECT_EQ(Resolve({})->address, "127.0.0.1:7420");
  EXPECT_EQ(Resolve({})->ns, "default");
  WriteContext("address: file:1\nnamespace: from-file\n");
  EXPECT_EQ(Resolve({})->address, "file:1");
  EXPECT_EQ(Resolve({})->ns, "from-file");
  environment_["LOCKSTEP_ADDRESS"] = "env:1";
  EXPECT_EQ(Resolve({})->address, "env:1");
  EXPECT_EQ(Resolve({})->ns, "from-file");
  EXPECT_EQ(Resolve({.address = "flag:1"})->address, "flag:1");
  environment_["LOCKSTEP_ADDRESS"] = "";
  EXPECT_EQ(Resolve({})->address, "file:1");
}

TEST_F(SettingsTest, ContextFileErrors) {
  environment_["LOCKSTEP_CONFIG"] = path_;
  EXPECT_THAT(Error(), HasSubstr("can't be read"));
  const struct {
    const char* text;
    const char* error;
  } kTable[] = {{"adress: x\n", ":1:1: unknown key `adress`: known are address and namespace"},
                {"address: [x]\n", ":1:1: `address` must be text"},
                {"address: x\naddress: y\n", ":2:1: `address` is given twice"},
                {"- x\n", ":1:1: must be a mapping"},
                {"address: [\n", ":2:1: not valid YAML"}};
  for (const auto& row : kTable) {
    WriteContext(row.text);
    EXPECT_THAT(Error(), HasSubstr(row.error)) << row.text;
  }
  WriteContext("");
  EXPECT_TRUE(Resolve({}).ok());
}

TEST_F(SettingsTest, EveryValueIsChecked) {
  const struct {
    const char* variable;
    const char* value;
    const char* error;
  } kTable[] = {{"LOCKSTEP_OUTPUT", "xml", "LOCKSTEP_OUTPUT: unknown output format \"xml\""},
                {"LOCKSTEP_COLOR", "red", "LOCKSTEP_COLOR: unknown mode \"red\""},
                {"LOCKSTEP_TIMEOUT", "10", "LOCKSTEP_TIMEOUT: \"10\" is not a duration"},
                {"LOCKSTEP_TIMEOUT", "0s", "LOCKSTEP_TIMEOUT: must be more than 0"},
                {"LOCKSTEP_NO_INPUT", "maybe", "LOCKSTEP_NO_INPUT: must be true or false"}};
  for (const auto& row : kTable) {
    environment_ = {{row.variable, row.value}};
    EXPECT_THAT(Error(), HasSubstr(row.error));
  }
}

TEST_F(SettingsTest, Names) {
  Settings settings;
  settings.ns = "demo";
  for (const char* text : {"cities", "demo/cities", "namespaces/demo/migrations/cities"}) {
    const auto name = ResolveMigrationName(settings, text);
    ASSERT_TRUE(name.ok()) << name.status();
    EXPECT_EQ(*name, "namespaces/demo/migrations/cities");
  }
  for (const char* text : {"", "/", "Cities", "a/b/c", "demo/", "1x"}) {
    EXPECT_FALSE(ResolveMigrationName(settings, text).ok()) << text;
  }
}

TEST_F(SettingsTest, Styles) {
  const struct {
    std::map<std::string, std::string> environment;
    bool terminal;
    ColorMode mode;
    bool color;
    bool unicode;
  } kTable[] = {{{{"TERM", "xterm"}, {"LANG", "C.UTF-8"}}, true, ColorMode::kAuto, true, true},
                {{{"TERM", "xterm"}, {"NO_COLOR", "1"}}, true, ColorMode::kAuto, false, false},
                {{{"TERM", "xterm"}, {"NO_COLOR", ""}}, true, ColorMode::kAuto, true, false},
                {{{"TERM", "xterm"}, {"NO_COLOR", "1"}}, true, ColorMode::kAlways, true, false},
                {{{"TERM", "dumb"}}, true, ColorMode::kAuto, false, false},
                {{}, true, ColorMode::kAuto, false, false},
                {{{"TERM", "xterm"}}, false, ColorMode::kAuto, false, false},
                {{{"TERM", "xterm"}}, true, ColorMode::kNever, false, false},
                {{{"LC_ALL", "C"}, {"LANG", "C.UTF-8"}}, false, ColorMode::kAuto, false, false},
                {{{"LC_ALL", ""}, {"LANG", "en_US.utf8"}}, false, ColorMode::kAuto, false, true}};
  for (const auto& row : kTable) {
    const Streams streams{.in = in_, .out = out_, .err = out_, .environment = row.environment};
    const Style style = StyleFor(streams, row.terminal, row.mode);
    EXPECT_EQ(style.color, row.color);
    EXPECT_EQ(style.unicode, row.unicode);
  }
}

}  // namespace
}  // namespace lockstep::cli
