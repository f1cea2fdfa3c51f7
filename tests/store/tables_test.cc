#include "server/store/tables.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <limits>
#include <string>
#include <vector>

#include "server/store/big_endian.h"

namespace lockstep::store {
namespace {

constexpr uint64_t kMax = std::numeric_limits<uint64_t>::max();
constexpr char kA[] = "namespaces/n/migrations/a";
constexpr char kAb[] = "namespaces/n/migrations/ab";

bool In(const KeyRange& range, const std::string& key) {
  return key >= range.start && (range.end.empty() || key < range.end);
}

TEST(TablesTest, NamesAreDistinctAndInTheOrderOfTheEnum) {
  std::vector<std::string> names;
  for (const TableInfo& info : kTables) {
    EXPECT_EQ(TableName(info.table), info.name);
    EXPECT_NE(info.name, "default") << "RocksDB's own";
    names.emplace_back(info.name);
  }
  std::sort(names.begin(), names.end());
  EXPECT_EQ(std::unique(names.begin(), names.end()), names.end());
}

TEST(TablesTest, BigEndianSortsLikeNumbers) {
  const std::vector<uint64_t> numbers = {0, 1, 255, 256, 65535, 1u << 31, 1ull << 32, 1ull << 63, kMax};
  std::string previous;
  for (const uint64_t number : numbers) {
    std::string bytes;
    AppendBigEndian64(&bytes, number);
    EXPECT_EQ(bytes.size(), kBigEndian64Bytes);
    EXPECT_EQ(ReadBigEndian64(bytes), number);
    EXPECT_LT(previous, bytes);
    previous = bytes;
  }
}

// The bytes are on disk: a change of one is a change of format.
TEST(TablesTest, GoldenKeys) {
  using std::string_literals::operator""s;
  EXPECT_EQ(MetaKey("audit_head"), "audit_head");
  EXPECT_EQ(MigrationKey(kA), kA);
  EXPECT_EQ(DecisionKey(kA, 258), "namespaces/n/migrations/a\0\0\0\0\0\0\0\1\2"s);
  EXPECT_EQ(DefinitionKey(kA, 258), "namespaces/n/migrations/a\0\0\0\0\0\0\0\1\2"s);
  EXPECT_EQ(AuditKey(1), "\0\0\0\0\0\0\0\1"s);
  EXPECT_EQ(InstanceKey("i-1"), "i-1");
  EXPECT_EQ(TelemetrySequenceKey("i-1"), "i-1");
  EXPECT_EQ(WindowKey(kA, 2, 60), "namespaces/n/migrations/a\0\0\0\0\0\0\0\0\2\0\0\0\0\0\0\0\x3c"s);
  EXPECT_EQ(SampleKey(kA, 1, 2, 3),
            "namespaces/n/migrations/a\0\0\0\0\0\0\0\0\1\0\0\0\0\0\0\0\2\0\0\0\0\0\0\0\3"s);
  EXPECT_EQ(RequestKey("r-1"), "r-1");
}

TEST(TablesTest, KeysSortByTheirPartsAndParseBack) {
  const std::vector<uint64_t> numbers = {0, 1, 255, 256, kMax};
  std::string previous_window, previous_sample, previous_decision;
  for (const char* migration : {kA, kAb}) {
    for (const uint64_t x : numbers) {
      const std::string decision = DecisionKey(migration, x);
      EXPECT_LT(previous_decision, decision);
      previous_decision = decision;
      EXPECT_EQ(ParseDecisionKey(decision), (DecisionKeyParts{migration, x}));
      for (const uint64_t y : numbers) {
        const std::string window = WindowKey(migration, x, y);
        EXPECT_LT(previous_window, window);
        previous_window = window;
        EXPECT_EQ(ParseWindowKey(window), (WindowKeyParts{migration, x, y}));
        for (const uint64_t z : numbers) {
          const std::string sample = SampleKey(migration, x, y, z);
          EXPECT_LT(previous_sample, sample);
          previous_sample = sample;
          EXPECT_EQ(ParseSampleKey(sample), (SampleKeyParts{migration, x, y, z}));
        }
      }
    }
  }
  EXPECT_EQ(ParseAuditKey(AuditKey(kMax)), kMax);
}

TEST(TablesTest, OtherBytesDoNotParse) {
  const std::string window = WindowKey(kA, 1, 2);
  for (const std::string& key : {std::string(), std::string(kA), window.substr(0, window.size() - 1),
                                 window + "x", window.substr(sizeof(kA) - 1), DecisionKey(kA, 1)}) {
    EXPECT_EQ(ParseWindowKey(key), std::nullopt);
    EXPECT_EQ(ParseSampleKey(key), std::nullopt);
    EXPECT_EQ(ParseAuditKey(key), std::nullopt);
  }
  EXPECT_EQ(ParseDecisionKey(window), std::nullopt);
}

TEST(TablesTest, RangesHoldWhatTheySayAndNoNeighbour) {
  for (const uint64_t n : {uint64_t{0}, uint64_t{7}, kMax}) {
    EXPECT_TRUE(In(DecisionsOf(kA), DecisionKey(kA, n)));
    EXPECT_FALSE(In(DecisionsOf(kA), DecisionKey(kAb, n)));
    EXPECT_FALSE(In(DecisionsOf(kAb), DecisionKey(kA, n)));
    EXPECT_TRUE(In(WindowsOf(kA), WindowKey(kA, n, n)));
    EXPECT_FALSE(In(WindowsOf(kA), WindowKey(kAb, n, n)));
    EXPECT_TRUE(In(SamplesOf(kA), SampleKey(kA, n, n, n)));
    EXPECT_TRUE(In(SamplesOf(kA, n), SampleKey(kA, n, kMax, kMax)));
    EXPECT_FALSE(In(SamplesOf(kA, n), SampleKey(kA, n ^ 1, 0, 0)));
  }
  const KeyRange definitions = DefinitionsUpTo(kA, 7);
  EXPECT_TRUE(In(definitions, DefinitionKey(kA, 1)));
  EXPECT_TRUE(In(definitions, DefinitionKey(kA, 7)));
  EXPECT_FALSE(In(definitions, DefinitionKey(kA, 8)));
  EXPECT_FALSE(In(definitions, DefinitionKey(kAb, 1)));
  const KeyRange hour = WindowsBetween(kA, 3, 3600, 7200);
  EXPECT_TRUE(In(hour, WindowKey(kA, 3, 3600)));
  EXPECT_TRUE(In(hour, WindowKey(kA, 3, 7199)));
  EXPECT_FALSE(In(hour, WindowKey(kA, 3, 3599)));
  EXPECT_FALSE(In(hour, WindowKey(kA, 3, 7200)));
  EXPECT_FALSE(In(hour, WindowKey(kA, 2, 3600)));
  EXPECT_TRUE(In(MigrationsOfNamespace("namespaces/n"), MigrationKey(kA)));
  EXPECT_FALSE(In(MigrationsOfNamespace("namespaces/n"), MigrationKey("namespaces/n2/migrations/a")));
}

TEST(TablesTest, PrefixRange) {
  EXPECT_EQ(PrefixRange(""), (KeyRange{"", ""}));
  EXPECT_EQ(PrefixRange("ab"), (KeyRange{"ab", "ac"}));
  EXPECT_EQ(PrefixRange("a\xff"), (KeyRange{"a\xff", "b"}));
  EXPECT_EQ(PrefixRange("\xff\xff"), (KeyRange{"\xff\xff", ""}));
  EXPECT_EQ(PrefixRange("a\x7f"), (KeyRange{"a\x7f", "a\x80"}));
}

TEST(TablesDeathTest, ANameWithNulIsABug) {
  EXPECT_DEATH(MigrationKey(absl::string_view("a\0b", 3)), "validated name");
  EXPECT_DEATH(DecisionKey("", 1), "validated name");
}

}  // namespace
}  // namespace lockstep::store
