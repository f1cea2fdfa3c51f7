// Shell completion, generated from the command tree: a command that exists can be completed.
#pragma once

#include <string>

#include "CLI/CLI.hpp"
#include "absl/strings/string_view.h"

namespace lockstep::cli {

// `shell` is bash, zsh or fish. Values of the form "a|b|c" in an option's type are offered one by one; after
// any other option that takes a value, file names are.
std::string CompletionScript(const CLI::App& root, absl::string_view shell);

}  // namespace lockstep::cli
