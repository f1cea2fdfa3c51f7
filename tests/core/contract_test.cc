#include "core/domain/contract.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <limits>

#include "absl/strings/str_cat.h"

namespace lockstep::domain {
namespace {

using ::testing::HasSubstr;

FieldRule Field(const std::string& path) {
  FieldRule field;
  field.path = path;
  return field;
}

TEST(ContractTest, AcceptsWhatItShould) {
  EXPECT_TRUE(ValidateContract({}).ok());
  FieldRule with_default = Field("b");
  with_default.has_default = true;
  FieldRule tolerant = Field("a.b");
  tolerant.tolerance = 0.5;
  EXPECT_TRUE(ValidateContract({{Field("a"), with_default, tolerant}, 3}).ok());
  Contract full;
  for (size_t i = 0; i < kMaxContractFields; ++i) full.fields.push_back(Field(absl::StrCat(i)));
  EXPECT_TRUE(ValidateContract(full).ok());
}

TEST(ContractTest, RefusesWithThePathOfTheFault) {
  struct Case {
    const char* message;
    Contract contract;
  };
  const auto with = [](auto change) {
    FieldRule field = Field("x");
    change(field);
    return Contract{{Field("a"), field}};
  };
  Contract too_many;
  for (size_t i = 0; i <= kMaxContractFields; ++i) too_many.fields.push_back(Field(absl::StrCat(i)));
  const std::vector<Case> kCases = {
      {"contract.fields: 513 fields", too_many},
      {"contract.revision", Contract{{}, 0}},
      {"contract.fields[1].path: is empty", with([](FieldRule& f) { f.path = ""; })},
      {"contract.fields[1].path: 'a' is declared twice", with([](FieldRule& f) { f.path = "a"; })},
      {"contract.fields[1].tolerance: -1", with([](FieldRule& f) { f.tolerance = -1; })},
      {"contract.fields[1].tolerance: nan", with([](FieldRule& f) { f.tolerance = std::nan(""); })},
      {"contract.fields[1].tolerance: inf",
       with([](FieldRule& f) { f.tolerance = std::numeric_limits<double>::infinity(); })},
      {"contract.fields[1].default_value", with([](FieldRule& f) { f.default_value = "0"; })},
  };
  for (const Case& c : kCases) {
    const absl::Status status = ValidateContract(c.contract);
    EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument) << c.message;
    EXPECT_THAT(std::string(status.message()), HasSubstr(c.message));
  }
}

}  // namespace
}  // namespace lockstep::domain
