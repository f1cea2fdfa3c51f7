#include <cstdio>
#include <cstdlib>
#include <fstream>
#include <sstream>
#include <string>

#include "absl/strings/str_cat.h"
#include "client/cli/app.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace lockstep::cli {
namespace {

using ::testing::HasSubstr;

std::string Script(const char* shell) {
  const char* const words[] = {"lockstep", "completion", shell};
  std::istringstream in;
  std::ostringstream out;
  EXPECT_EQ(Run(3, words, {.in = in, .out = out, .err = out}), ExitCode::kOk);
  return out.str();
}

// What bash says about a script, and its exit code.
struct Said {
  int code;
  std::string text;
};

Said RunBash(const std::string& script, const std::string& options) {
  const std::string path = absl::StrCat(testing::TempDir(), "lockstep-completion.bash");
  std::ofstream(path) << script;
  FILE* pipe = popen(absl::StrCat("bash ", options, " ", path, " 2>&1").c_str(), "r");
  Said said{-1, ""};
  char buffer[4096];
  while (pipe != nullptr && fgets(buffer, sizeof buffer, pipe) != nullptr) said.text += buffer;
  if (pipe != nullptr) said.code = pclose(pipe);
  std::remove(path.c_str());
  return said;
}

TEST(CompletionTest, BashReadsItsScript) {
  const Said said = RunBash(Script("bash"), "-n");
  EXPECT_EQ(said.code, 0) << said.text;
}

TEST(CompletionTest, BashCompletes) {
  const struct {
    const char* words;
    const char* replies;
  } kTable[] = {{"lockstep adv", "advance"},
                {"lockstep gate e", "explain export"},
                {"lockstep gate simulate --new-s", "--new-share"},
                {"lockstep migration l", "lint list"},
                {"lockstep get x -o j", "json jsonl"},
                {"lockstep -o json mig", "migration"},
                {"lockstep completion f", "fish"},
                {"lockstep wait x --f", "--for"},
                {"lockstep instance e", "evict"},
                {"lockstep instance evict x y --r", "--reason"},
                {"lockstep drill r", "rollback"},
                {"lockstep advance x --acc", "--accept-no-way-back"},
                {"lockstep advance x --o", "--override --output"},
                {"lockstep pause x --over", ""}};
  for (const auto& row : kTable) {
    const Said said = RunBash(
        absl::StrCat(Script("bash"), "COMP_WORDS=(", row.words, ")\n",
                     "COMP_CWORD=$((${#COMP_WORDS[@]} - 1))\n_lockstep\n", "echo \"${COMPREPLY[*]}\"\n"),
        "");
    EXPECT_EQ(said.text, absl::StrCat(row.replies, "\n")) << row.words;
  }
}

TEST(CompletionTest, OtherShells) {
  EXPECT_THAT(Script("zsh"), HasSubstr("#compdef lockstep"));
  EXPECT_THAT(Script("zsh"), HasSubstr("'set-weight:Set the share"));
  EXPECT_THAT(Script("fish"),
              HasSubstr("complete -c lockstep -n '__lockstep_at \\'lockstep migration\\'' -a apply"));
}

}  // namespace
}  // namespace lockstep::cli
