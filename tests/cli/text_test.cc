#include "client/cli/text.h"

#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "lockstep/v1/migration.pb.h"

namespace lockstep::cli {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;

TEST(TextTest, Weights) {
  const struct {
    const char* text;
    int buckets;  // -1: refused
    const char* shown;
  } kTable[] = {{"0", 0, "0 %"},
                {"5000", 5000, "5 %"},
                {"100000", 100000, "100 %"},
                {"5%", 5000, "5 %"},
                {"5 %", 5000, "5 %"},
                {" 5% ", 5000, "5 %"},
                {"0.001%", 1, "0.001 %"},
                {"0.010%", 10, "0.01 %"},
                {"12.5%", 12500, "12.5 %"},
                {"99.999%", 99999, "99.999 %"},
                {"100.000%", 100000, "100 %"},
                {"0.0010%", 1, "0.001 %"},
                {"", -1, ""},
                {"%", -1, ""},
                {"-1", -1, ""},
                {"-1%", -1, ""},
                {"100001", -1, ""},
                {"100.001%", -1, ""},
                {"101%", -1, ""},
                {"0.0005%", -1, ""},
                {"5.%", -1, ""},
                {".5%", -1, ""},
                {"5.0", -1, ""},
                {"1e3", -1, ""},
                {"0x10", -1, ""},
                {"nan%", -1, ""},
                {"4294967297", -1, ""},
                {"4294967297%", -1, ""},
                {"five", -1, ""},
                {"5%%", -1, ""}};
  for (const auto& row : kTable) {
    const auto weight = ParseWeight(row.text);
    if (row.buckets < 0) {
      EXPECT_FALSE(weight.ok()) << row.text;
      continue;
    }
    ASSERT_TRUE(weight.ok()) << weight.status();
    EXPECT_EQ(*weight, static_cast<uint32_t>(row.buckets)) << row.text;
    EXPECT_EQ(FormatWeight(*weight), row.shown);
  }
}

TEST(TextTest, EveryWeightSurvivesItsText) {
  for (uint32_t weight = 0; weight <= 100'000; ++weight) {
    const auto read = ParseWeight(FormatWeight(weight));
    ASSERT_TRUE(read.ok()) << weight;
    ASSERT_EQ(*read, weight);
  }
}

TEST(TextTest, Ratios) {
  const struct {
    const char* text;
    double ratio;  // < 0: refused
  } kTable[] = {{"0.001", 0.001}, {"0.1%", 0.001}, {"1e-3", 0.001}, {"0.05 %", 0.0005}, {"0", 0},
                {"1", 1},         {"100%", 1},     {".5", 0.5},     {"1e-1%", 0.001},   {"7%", 0.07},
                {"", -1},         {"%", -1},       {"-1", -1},      {"nan", -1},        {"inf", -1},
                {"nan%", -1},     {"1x", -1},      {"1e999", -1}};
  for (const auto& row : kTable) {
    const auto ratio = ParseRatio(row.text);
    EXPECT_EQ(ratio.ok(), row.ratio >= 0) << row.text;
    if (ratio.ok()) {
      EXPECT_EQ(*ratio, row.ratio) << row.text;
    }
  }
  EXPECT_EQ(FormatRatio(0.001), "0.1 %");
  EXPECT_EQ(FormatRatio(0), "0 %");
  EXPECT_EQ(FormatRatio(1e-9), "<0.001 %");
  EXPECT_EQ(FormatRatio(0.123456), "12.3 %");
}

TEST(TextTest, Durations) {
  const struct {
    const char* text;
    int64_t milliseconds;  // -1: refused
    const char* shown;
  } kTable[] = {{"30s", 30'000, "30s"},
                {"5m", 300'000, "5m"},
                {"1h30m", 5'400'000, "1h30m"},
                {"500ms", 500, "500ms"},
                {"0", 0, "0ms"},
                {"24h", 86'400'000, "1d"},
                {"1.5h", 5'400'000, "1h30m"},
                {"90s", 90'000, "1m30s"},
                {"52h", 187'200'000, "2d4h"},
                {"30", -1, ""},
                {"", -1, ""},
                {"-5s", -1, ""},
                {"inf", -1, ""},
                {"5 m", -1, ""},
                {"soon", -1, ""}};
  for (const auto& row : kTable) {
    const auto duration = ParseDuration(row.text);
    EXPECT_EQ(duration.ok(), row.milliseconds >= 0) << row.text;
    if (!duration.ok()) continue;
    EXPECT_EQ(absl::ToInt64Milliseconds(*duration), row.milliseconds) << row.text;
    EXPECT_EQ(ShortDuration(*duration), row.shown);
  }
}

TEST(TextTest, Quantiles) {
  const struct {
    const char* text;
    double quantile;  // 0 = refused
  } kTable[] = {{"p50", 0.5},  {"p95", 0.95},   {"P99", 0.99}, {"p99.9", 0.999}, {"0.95", 0.95},
                {"95%", 0.95}, {" p95 ", 0.95}, {"p0", 0},     {"p100", 0},      {"1", 0},
                {"95", 0},     {"0", 0},        {"", 0},       {"p", 0},         {"pp95", 0},
                {"p-5", 0},    {"nan", 0}};
  for (const auto& row : kTable) {
    const auto quantile = ParseQuantile(row.text);
    EXPECT_EQ(quantile.value_or(0), row.quantile) << row.text;
  }
}

TEST(TextTest, Times) {
  const absl::Time now = absl::FromUnixSeconds(1714564800);
  const struct {
    const char* text;
    int64_t seconds_ago;  // -1 = refused
  } kTable[] = {{"2024-05-01T12:00:00Z", 0},
                {"2024-05-01T13:50:00+02:00", 600},
                {"10m ago", 600},
                {"-10m", 600},
                {"10m", 600},
                {"1h30m ago", 5400},
                {"0", 0},
                {"yesterday", -1},
                {"", -1},
                {"ago", -1},
                {"10", -1},
                {"2024-05-01", -1},
                {"--10m", -1}};
  for (const auto& row : kTable) {
    const auto time = ParseTime(row.text, now);
    EXPECT_EQ(time.ok(), row.seconds_ago >= 0) << row.text;
    if (!time.ok()) continue;
    EXPECT_EQ(absl::ToInt64Seconds(now - *time), row.seconds_ago) << row.text;
  }
}

TEST(TextTest, Enums) {
  const auto& stages = *v1::Stage_descriptor();
  EXPECT_EQ(EnumName(stages, v1::STAGE_CANARY_READ), "CANARY_READ");
  EXPECT_EQ(EnumName(stages, 0), "UNSPECIFIED");
  EXPECT_EQ(EnumName(stages, 99), "99");
  for (const char* name : {"CANARY_READ", "canary_read", "STAGE_CANARY_READ"}) {
    const auto* value = FindEnumValue(stages, name);
    ASSERT_NE(value, nullptr) << name;
    EXPECT_EQ(value->number(), v1::STAGE_CANARY_READ);
  }
  for (const char* name : {"", "UNSPECIFIED", "STAGE_UNSPECIFIED", "CANARY", "4"}) {
    EXPECT_EQ(FindEnumValue(stages, name), nullptr) << name;
  }
  EXPECT_THAT(EnumNames(*v1::BreachAction_descriptor(), true), ElementsAre("rollback", "pause", "notify"));
}

TEST(TextTest, Nearest) {
  const std::vector<std::string> words = {"advance", "pause", "resume", "rollback", "set-weight"};
  EXPECT_EQ(Nearest("advnce", words), "advance");
  EXPECT_EQ(Nearest("rolback", words), "rollback");
  EXPECT_EQ(Nearest("setweight", words), "set-weight");
  EXPECT_EQ(Nearest("frobnicate", words), "");
  EXPECT_EQ(Nearest("", words), "");
}

TEST(TextTest, PrintableKeepsTerminalsUnharmed) {
  EXPECT_EQ(Printable("plain, ünïcode ✓"), "plain, ünïcode ✓");
  EXPECT_EQ(Printable("a\x1b[31mb"), "a?[31mb");
  EXPECT_EQ(Printable("a\nb\tc\r"), "a b c ");
  EXPECT_EQ(Printable("\xff\xc3"), "??");
  EXPECT_EQ(Printable("\xc2\x9b"
                      "31m"),
            "?31m");  // the one-character form of ESC [
  EXPECT_EQ(Printable(std::string("\0x", 2)), "?x");
  EXPECT_EQ(DisplayWidth("✓ é"), 3u);
}

TEST(TextTest, Counts) {
  EXPECT_EQ(FormatCount(0), "0");
  EXPECT_EQ(FormatCount(999), "999");
  EXPECT_EQ(FormatCount(1000), "1,000");
  EXPECT_EQ(FormatCount(UINT64_MAX), "18,446,744,073,709,551,615");
}

}  // namespace
}  // namespace lockstep::cli
