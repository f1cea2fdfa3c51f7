#include "server/engine/name_map.h"

#include <gtest/gtest.h>

#include <map>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "core/base/prng.h"

namespace lockstep::engine {
namespace {

using Reference = std::map<std::string, int>;

void ExpectSame(const NameMap<int>& map, const Reference& reference) {
  ASSERT_EQ(map.size(), reference.size());
  auto expected = reference.begin();
  for (const auto& [name, value] : map) {
    ASSERT_EQ(name, expected->first);
    ASSERT_EQ(value, expected->second);
    ++expected;
  }
}

TEST(NameMap, IsAMap) {
  constexpr uint64_t kSeed = 4711;
  Prng prng(kSeed);
  NameMap<int> map;
  Reference reference;
  for (int i = 0; i < 20'000; ++i) {
    const std::string name = absl::StrCat("m-", prng.Below(2000));
    if (prng.Below(3) == 0) {
      map.Erase(name);
      reference.erase(name);
    } else {
      map.Set(name, i);
      reference[name] = i;
    }
    const std::string wanted = absl::StrCat("m-", prng.Below(2000));
    const auto found = reference.find(wanted);
    ASSERT_EQ(map.Find(wanted) != nullptr, found != reference.end()) << wanted << ", change " << i;
    if (found != reference.end()) {
      ASSERT_EQ(*map.Find(wanted), found->second);
    }
    const auto lower = reference.lower_bound(wanted), upper = reference.upper_bound(wanted);
    ASSERT_EQ(map.LowerBound(wanted) == map.end(), lower == reference.end());
    ASSERT_EQ(map.UpperBound(wanted) == map.end(), upper == reference.end());
    if (lower != reference.end()) {
      ASSERT_EQ(map.LowerBound(wanted)->first, lower->first);
    }
    if (upper != reference.end()) {
      ASSERT_EQ(map.UpperBound(wanted)->first, upper->first);
    }
    if (i % 1000 == 0) ExpectSame(map, reference);
  }
  ExpectSame(map, reference);
}

TEST(NameMap, ACopyStaysAsItWas) {
  NameMap<int> map;
  Reference reference;
  std::vector<std::pair<NameMap<int>, Reference>> copies;
  for (int i = 0; i < 500; ++i) {
    const std::string name = absl::StrCat("m-", i * 7919 % 500);
    map.Set(name, i);
    reference[name] = i;
    if (i % 50 == 0) copies.emplace_back(map, reference);
  }
  for (int i = 0; i < 500; i += 3) map.Erase(absl::StrCat("m-", i));
  for (const auto& [copy, then] : copies) ExpectSame(copy, then);
}

TEST(NameMap, OfSortedItems) {
  for (const int size : {0, 1, 31, 32, 33, 1000}) {
    Reference reference;
    for (int i = 0; i < size; ++i) reference[absl::StrCat("m-", i)] = i;
    ExpectSame(NameMap<int>::Of({reference.begin(), reference.end()}), reference);
  }
}

}  // namespace
}  // namespace lockstep::engine
