// Where a setting comes from, and how a wrong one is refused.
#include "server/app/config.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cctype>
#include <cstdlib>
#include <fstream>
#include <functional>
#include <string>
#include <vector>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "tests/store/temp_directory.h"

namespace lockstep::app {
namespace {

class ConfigTest : public ::testing::Test {
 protected:
  ~ConfigTest() override {
    for (const std::string& name : set_) ::unsetenv(name.c_str());
  }

  void SetEnvironment(const std::string& name, const std::string& value) {
    ::setenv(name.c_str(), value.c_str(), 1);
    set_.push_back(name);
  }
  // Writes the file and returns its path.
  std::string WriteFile(const std::string& text) {
    const std::string path = directory_.path() + "/lockstepd.toml";
    std::ofstream(path) << text;
    return path;
  }
  static absl::StatusOr<ParsedCommandLine> Parse(std::vector<std::string> arguments) {
    std::vector<const char*> argv = {"lockstepd"};
    for (const std::string& argument : arguments) argv.push_back(argument.c_str());
    return ParseCommandLine(static_cast<int>(argv.size()), argv.data());
  }

  store::TempDirectory directory_;
  std::vector<std::string> set_;
};

TEST_F(ConfigTest, DefaultsAreForOneMachine) {
  const auto parsed = Parse({});
  ASSERT_TRUE(parsed.ok()) << parsed.status();
  const Config& config = parsed->config;
  EXPECT_EQ(config.listen, "127.0.0.1:7420");
  EXPECT_EQ(config.http_address, "127.0.0.1");
  EXPECT_EQ(config.http_port, 7421);
  EXPECT_EQ(config.store, StoreKind::kRocksDb);
  EXPECT_EQ(config.gate_interval, absl::Seconds(1));
  EXPECT_EQ(config.evidence_retention, absl::Hours(168));
  EXPECT_EQ(config.drain_timeout, absl::Seconds(10));
  EXPECT_EQ(config.remote_valid_for, absl::Seconds(5));
  EXPECT_EQ(config.log_level, LogLevel::kInfo);
  EXPECT_TRUE(parsed->print_and_exit.empty());
}

// Every option, from each of the three places.
struct Option {
  std::string name;
  std::string value;
  std::function<bool(const Config&)> is_set;
};
std::vector<Option> Options() {
  return {
      {"listen", "[::1]:1234", [](const Config& c) { return c.listen == "[::1]:1234"; }},
      {"http-address", "0.0.0.0", [](const Config& c) { return c.http_address == "0.0.0.0"; }},
      {"http-port", "0", [](const Config& c) { return c.http_port == 0; }},
      {"store", "memory", [](const Config& c) { return c.store == StoreKind::kMemory; }},
      {"data-dir", "/tmp/x", [](const Config& c) { return c.data_dir == "/tmp/x"; }},
      {"gate-interval", "250ms", [](const Config& c) { return c.gate_interval == absl::Milliseconds(250); }},
      {"evidence-retention", "36h", [](const Config& c) { return c.evidence_retention == absl::Hours(36); }},
      {"drain-timeout", "1m30s", [](const Config& c) { return c.drain_timeout == absl::Seconds(90); }},
      {"enrol-timeout", "3s", [](const Config& c) { return c.enrol_timeout == absl::Seconds(3); }},
      {"keepalive-time", "4s", [](const Config& c) { return c.keepalive_time == absl::Seconds(4); }},
      {"keepalive-timeout", "5s", [](const Config& c) { return c.keepalive_timeout == absl::Seconds(5); }},
      {"remote-valid-for", "2s", [](const Config& c) { return c.remote_valid_for == absl::Seconds(2); }},
      {"log-level", "warning", [](const Config& c) { return c.log_level == LogLevel::kWarning; }},
      {"port-file", "/tmp/ports", [](const Config& c) { return c.port_file == "/tmp/ports"; }},
  };
}

std::string VariableOf(std::string option) {
  std::string name = "LOCKSTEP_";
  for (const char c : option) name += c == '-' ? '_' : static_cast<char>(std::toupper(c));
  return name;
}

TEST_F(ConfigTest, EveryOptionIsTakenFromFlagEnvironmentAndFile) {
  for (const Option& option : Options()) {
    SCOPED_TRACE(option.name);
    auto parsed = Parse({absl::StrCat("--", option.name, "=", option.value)});
    ASSERT_TRUE(parsed.ok()) << parsed.status();
    EXPECT_TRUE(option.is_set(parsed->config));

    parsed = Parse({"--config", WriteFile(absl::StrCat(option.name, " = \"", option.value, "\"\n"))});
    ASSERT_TRUE(parsed.ok()) << parsed.status();
    EXPECT_TRUE(option.is_set(parsed->config));

    ::setenv(VariableOf(option.name).c_str(), option.value.c_str(), 1);
    parsed = Parse({});
    ::unsetenv(VariableOf(option.name).c_str());
    ASSERT_TRUE(parsed.ok()) << parsed.status();
    EXPECT_TRUE(option.is_set(parsed->config));
  }
}

TEST_F(ConfigTest, AFlagBeatsTheEnvironmentWhichBeatsTheFile) {
  const std::string file =
      WriteFile("# a comment\ndata-dir = \"file\"\nhttp-port = 1\nlog-level = \"error\"\n");
  SetEnvironment("LOCKSTEP_CONFIG_FILE", file);
  auto parsed = Parse({});
  ASSERT_TRUE(parsed.ok()) << parsed.status();
  EXPECT_EQ(parsed->config.data_dir, "file");
  EXPECT_EQ(parsed->config.http_port, 1);

  SetEnvironment("LOCKSTEP_DATA_DIR", "environment");
  SetEnvironment("LOCKSTEP_HTTP_PORT", "2");
  parsed = Parse({});
  ASSERT_TRUE(parsed.ok()) << parsed.status();
  EXPECT_EQ(parsed->config.data_dir, "environment");
  EXPECT_EQ(parsed->config.http_port, 2);
  EXPECT_EQ(parsed->config.log_level, LogLevel::kError);

  parsed = Parse({"--data-dir", "flag"});
  ASSERT_TRUE(parsed.ok()) << parsed.status();
  EXPECT_EQ(parsed->config.data_dir, "flag");
  EXPECT_EQ(parsed->config.http_port, 2);
}

TEST_F(ConfigTest, ErrorsNameWhatIsWrongAndWhatItShouldBe) {
  struct Case {
    std::vector<std::string> arguments;
    std::vector<std::string> parts;
  };
  const std::vector<Case> cases = {
      {{"--gate-interval", "soon"}, {"--gate-interval", "'soon'", "500ms"}},
      {{"--gate-interval", "0s"}, {"--gate-interval", "'0s'"}},
      {{"--gate-interval", "-1s"}, {"--gate-interval", "'-1s'"}},
      {{"--evidence-retention", "5m"}, {"--evidence-retention", "'5m'", "1h", "8760h"}},
      {{"--evidence-retention", "9000h"}, {"--evidence-retention", "'9000h'"}},
      {{"--evidence-retention", "always"}, {"--evidence-retention", "'always'", "168h"}},
      {{"--drain-timeout", "25h"}, {"--drain-timeout", "'25h'"}},
      {{"--listen", "7420"}, {"--listen", "'7420'", "host:port"}},
      {{"--listen", ":7420"}, {"--listen", "':7420'"}},
      {{"--listen", "localhost:70000"}, {"--listen", "'localhost:70000'"}},
      {{"--listen", "localhost:x"}, {"--listen", "'localhost:x'"}},
      {{"--http-port", "70000"}, {"--http-port", "70000"}},
      {{"--http-port", "-1"}, {"--http-port"}},
      {{"--http-port", "x"}, {"--http-port", "x"}},
      {{"--http-address", "localhost"}, {"--http-address", "localhost"}},
      {{"--store", "etcd"}, {"--store", "etcd", "rocksdb"}},
      {{"--log-level", "loud"}, {"--log-level", "loud", "warning"}},
      {{"--no-such-option"}, {"--no-such-option"}},
      {{"extra"}, {"extra"}},
      {{"--data-dir"}, {"--data-dir"}},
      {{"--config", "/nonexistent/lockstepd.toml"}, {"/nonexistent/lockstepd.toml"}},
      {{"--config", WriteFile("gate_intervall = \"1s\"\n")}, {"gate_intervall"}},
  };
  for (const Case& c : cases) {
    const auto parsed = Parse(c.arguments);
    ASSERT_FALSE(parsed.ok()) << c.arguments[0];
    EXPECT_EQ(parsed.status().code(), absl::StatusCode::kInvalidArgument);
    for (const std::string& part : c.parts) {
      EXPECT_TRUE(absl::StrContains(parsed.status().message(), part)) << part << " in " << parsed.status();
    }
    EXPECT_TRUE(absl::StrContains(parsed.status().message(), "--help")) << parsed.status();
  }
  // The same from the environment and from the file.
  SetEnvironment("LOCKSTEP_GATE_INTERVAL", "soon");
  auto parsed = Parse({});
  ASSERT_FALSE(parsed.ok());
  EXPECT_TRUE(absl::StrContains(parsed.status().message(), "'soon'")) << parsed.status();
  ::unsetenv("LOCKSTEP_GATE_INTERVAL");
  SetEnvironment("LOCKSTEP_CONFIG_FILE", "/nonexistent/lockstepd.toml");
  parsed = Parse({});
  ASSERT_FALSE(parsed.ok());
  EXPECT_TRUE(absl::StrContains(parsed.status().message(), "/nonexistent/lockstepd.toml")) << parsed.status();
  ::unsetenv("LOCKSTEP_CONFIG_FILE");
  parsed = Parse({"--config", WriteFile("http-port = \"many\"\n")});
  ASSERT_FALSE(parsed.ok());
  EXPECT_TRUE(absl::StrContains(parsed.status().message(), "http-port")) << parsed.status();
}

TEST_F(ConfigTest, HelpAndVersionArePrinted) {
  auto parsed = Parse({"--help"});
  ASSERT_TRUE(parsed.ok()) << parsed.status();
  for (const Option& option : Options()) {
    EXPECT_TRUE(absl::StrContains(parsed->print_and_exit, absl::StrCat("--", option.name))) << option.name;
  }
  EXPECT_TRUE(absl::StrContains(parsed->print_and_exit, "LOCKSTEP_DATA_DIR"));
  // Help helps even beside something that is wrong.
  SetEnvironment("LOCKSTEP_CONFIG_FILE", "/nonexistent");
  parsed = Parse({"--help"});
  EXPECT_TRUE(parsed.ok()) << parsed.status();
  ::unsetenv("LOCKSTEP_CONFIG_FILE");
  parsed = Parse({"--version"});
  ASSERT_TRUE(parsed.ok()) << parsed.status();
  EXPECT_TRUE(absl::StartsWith(parsed->print_and_exit, "lockstepd ")) << parsed->print_and_exit;
}

}  // namespace
}  // namespace lockstep::app
