#include "core/wire/resource_name.h"

#include <gtest/gtest.h>

#include "absl/strings/str_cat.h"
#include "tests/wire/violation_matchers.h"

namespace lockstep::wire {
namespace {

TEST(MigrationNameTest, FullFormOnly) {
  EXPECT_TRUE(ValidateMigrationName("name", "namespaces/a/migrations/b-2").ok());
  for (const std::string& bad :
       {std::string(""), std::string("a/b"), std::string("namespaces/a"),
        std::string("namespaces/a/migrations/"), std::string("namespaces//migrations/b"),
        std::string("namespaces/a/migrations/B"), std::string("namespaces/a/migrations/b/c"),
        std::string("namespaces/a/migrations/b-"), std::string("namespaces/migrations/b"),
        std::string("namespaces/a/migrations/b\0", 24), std::string("namespaces/1/migrations/b"),
        absl::StrCat("namespaces/a/migrations/", std::string(64, 'b'))}) {
    EXPECT_THAT(ValidateMigrationName("some.name", bad), Refuses("some.name", "")) << bad;
  }
}

TEST(ListParentTest, NamespaceOrAll) {
  EXPECT_TRUE(ValidateListParent("parent", "namespaces/-").ok());
  EXPECT_TRUE(ValidateListParent("parent", "namespaces/shop").ok());
  for (const char* bad :
       {"", "-", "shop", "namespaces/", "namespaces/A", "namespaces/a/", "namespaces/a/migrations/b"}) {
    EXPECT_THAT(ValidateListParent("parent", bad), Refuses("parent", "")) << bad;
  }
}

TEST(MigrationNameOfTest, NamesTheWrongPart) {
  EXPECT_EQ(*MigrationNameOf("namespaces/a", "b"), "namespaces/a/migrations/b");
  EXPECT_THAT(MigrationNameOf("namespaces/-", "b").status(), Refuses("parent", ""));
  EXPECT_THAT(MigrationNameOf("namespaces/a", "").status(), Refuses("migration_id", "empty"));
  EXPECT_THAT(MigrationNameOf("namespaces/a", "b/c").status(), Refuses("migration_id", "'/'"));
  EXPECT_THAT(ViolatedFields(MigrationNameOf("a", "B").status()),
              testing::ElementsAre("parent", "migration_id"));
}

TEST(DecisionNameTest, BothWays) {
  const std::string name = DecisionName("namespaces/a/migrations/b", 17);
  EXPECT_EQ(name, "namespaces/a/migrations/b/decisions/17");
  const auto id = ParseDecisionName(name);
  ASSERT_TRUE(id.ok());
  EXPECT_EQ(id->migration, "namespaces/a/migrations/b");
  EXPECT_EQ(id->number, 17u);
  for (const char* bad : {"", "/decisions/1", "a/decisions/", "a/decisions/0", "a/decisions/-1",
                          "a/decisions/01", "a/decisions/x", "a/decisions/18446744073709551616", "a"}) {
    EXPECT_FALSE(ParseDecisionName(bad).ok()) << bad;
  }
}

}  // namespace
}  // namespace lockstep::wire
