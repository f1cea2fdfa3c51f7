#include "lockstep/internal/name_index.h"

#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "gtest/gtest.h"

namespace lockstep::internal {
namespace {

std::vector<NameIndex::Entry> EntriesOf(const std::vector<std::string>& names) {
  std::vector<NameIndex::Entry> entries;
  for (uint32_t i = 0; i < names.size(); ++i) entries.push_back({names[i], i});
  return entries;
}

void ExpectFindsEach(const std::vector<std::string>& names) {
  const NameIndex index(EntriesOf(names));
  for (uint32_t i = 0; i < names.size(); ++i) {
    // Not the bytes that the index was made of.
    const std::string copy = names[i];
    const uint32_t* const found = index.Find(copy);
    ASSERT_NE(found, nullptr) << copy;
    EXPECT_EQ(*found, i) << copy;
  }
}

TEST(NameIndexTest, FindsEachAndNothingElse) {
  const std::vector<std::string> names = {"namespaces/shop/migrations/orders", "shop/orders", "a/b",
                                          "namespaces/a/migrations/b", "shop/carts"};
  ExpectFindsEach(names);
  const NameIndex index(EntriesOf(names));
  for (const std::string unknown :
       {"", "a", "a/c", "shop/order", "shop/orderz", "xhop/orders", "shop/orders ",
        "namespaces/shop/migrations/order", "namespaces/shop/migrations/orderz",
        "Namespaces/shop/migrations/orders"}) {
    EXPECT_EQ(index.Find(unknown), nullptr) << unknown;
  }
  EXPECT_EQ(index.Find(absl::string_view()), nullptr);
}

TEST(NameIndexTest, NoNames) {
  const NameIndex index({});
  EXPECT_EQ(index.Find(""), nullptr);
  EXPECT_EQ(index.Find("namespaces/shop/migrations/orders"), nullptr);
}

TEST(NameIndexTest, OfEqualNamesTheFirstCounts) {
  const NameIndex index({{"shop/orders", 7}, {"shop/orders", 8}, {"a/b", 1}, {"a/b", 2}});
  EXPECT_EQ(*index.Find("shop/orders"), 7u);
  EXPECT_EQ(*index.Find("a/b"), 1u);
}

TEST(NameIndexTest, ThousandsOfNames) {
  std::vector<std::string> names;
  for (int i = 0; i < 2000; ++i) names.push_back(absl::StrCat("namespaces/ns-", i % 37, "/migrations/m-", i));
  ExpectFindsEach(names);
}

// Alike in length, middle and end.
TEST(NameIndexTest, NamesThatAFirstLookDoesNotTellApart) {
  std::vector<std::string> names;
  for (char a = 'a'; a <= 'z'; ++a) {
    for (char b = 'a'; b <= 'z'; ++b) {
      names.push_back(
          absl::StrCat(std::string(1, a), std::string(1, b), "-the-same-to-the-end/the-same-to-the-end"));
    }
  }
  ExpectFindsEach(names);
}

TEST(NameIndexTest, EveryLengthAroundWhatIsLookedAt) {
  std::vector<std::string> names;
  for (size_t length = 1; length <= 40; ++length) names.push_back(std::string(length, 'x'));
  ExpectFindsEach(names);
}

}  // namespace
}  // namespace lockstep::internal
