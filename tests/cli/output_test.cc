#include "client/cli/output.h"

#include "gtest/gtest.h"
#include "tests/cli/golden.h"
#include "tests/cli/samples.h"
#include "yaml-cpp/yaml.h"

namespace lockstep::cli {
namespace {

TEST(OutputTest, JsonIsAContract) {
  ExpectGolden("migration.json", ToJson(CanaryMigration(), /*pretty=*/true));
}

TEST(OutputTest, OneLineOfJson) {
  const std::string json = ToJson(CanaryMigration(), /*pretty=*/false);
  EXPECT_EQ(json.find('\n'), json.size() - 1);
}

TEST(OutputTest, YamlIsTheSameDocument) { ExpectGolden("migration.out.yaml", ToYaml(CanaryMigration())); }

TEST(OutputTest, YamlQuotesWhatWouldReadAsSomethingElse) {
  v1::Migration migration;
  for (const char* owner :
       {"true", "null", "12", "1e3", "", "no", "a: b", "# c", "x\ny", "plain", "0x1f", "~"}) {
    migration.add_owners(owner);
  }
  const YAML::Node read = YAML::Load(ToYaml(migration));
  for (int i = 0; i < migration.owners_size(); ++i) {
    EXPECT_EQ(read["owners"][i].Scalar(), migration.owners(i));
    EXPECT_FALSE(read["owners"][i].IsNull());
  }
  EXPECT_EQ(read["owners"][0].Tag(), "!");
  EXPECT_EQ(read["owners"][2].Tag(), "!");
  EXPECT_EQ(read["owners"][9].Tag(), "?");
}

TEST(OutputTest, Formats) {
  for (const char* name : {"table", "wide", "json", "yaml", "jsonl", "name"})
    EXPECT_TRUE(ParseOutputFormat(name).ok());
  EXPECT_FALSE(ParseOutputFormat("xml").ok());
  EXPECT_FALSE(ParseOutputFormat("").ok());
}

}  // namespace
}  // namespace lockstep::cli
