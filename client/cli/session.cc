#include "client/cli/session.h"

#include <istream>
#include <ostream>

#include "absl/strings/ascii.h"
#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "client/cli/text.h"
#include "core/base/error_info.h"

namespace lockstep::cli {
namespace {

std::string ReasonOf(const absl::Status& status) {
  const auto info = GetErrorInfo(status);
  return info.has_value() ? info->reason : "";
}

std::string HintFor(const absl::Status& status, const Settings& settings) {
  switch (ExitCodeOf(status)) {
    case ExitCode::kHolds:
      return ReasonOf(status) == "GATE_HOLDS"
                 ? "watch it with `lockstep get NAME -w`; `--override --reason ...` goes on without the gate"
                 : "watch it with `lockstep get NAME -w`";
    case ExitCode::kConflict:
      return "read it again (`lockstep get NAME`), decide again, and pass the new etag";
    case ExitCode::kUnavailable:
      return absl::IsDeadlineExceeded(status)
                 ? "allow more time with --timeout, or ask `lockstep server health`"
                 : absl::StrCat(
                       "is lockstepd running there? Start it, or name another server with --address or ",
                       "LOCKSTEP_ADDRESS");
    case ExitCode::kDenied:
      return "ask an administrator of the namespace for the role that this needs";
    case ExitCode::kOk:
    case ExitCode::kError:
    case ExitCode::kUsage:
    case ExitCode::kRolledBack:
    case ExitCode::kInterrupted:
      break;
  }
  if (ReasonOf(status) == "POINT_OF_NO_RETURN") {
    return "`lockstep advance NAME` asks for it; --accept-no-way-back takes the step without asking";
  }
  if (ReasonOf(status) == "PINS_TO_OLD") {
    return "lift the pins in the migration's file, then `lockstep migration apply -f`";
  }
  if (absl::IsNotFound(status)) {
    return absl::StrCat("`lockstep migration list` shows what is in namespace ", settings.ns,
                        "; --namespace names another one");
  }
  if (absl::IsUnimplemented(status)) return "the server is of another version than this command";
  return "";
}

std::string MessageFor(const absl::Status& status, const Settings& settings) {
  if (absl::IsDeadlineExceeded(status)) {
    return absl::StrCat(settings.address, " did not answer within ", ShortDuration(settings.timeout));
  }
  if (status.message().empty()) return absl::StatusCodeToString(status.code());
  return std::string(status.message());
}

}  // namespace

ExitCode ExitCodeOf(const absl::Status& status) {
  switch (status.code()) {
    case absl::StatusCode::kOk:
      return ExitCode::kOk;
    case absl::StatusCode::kAborted:
      return ExitCode::kConflict;
    case absl::StatusCode::kUnavailable:
    case absl::StatusCode::kDeadlineExceeded:
      return ExitCode::kUnavailable;
    case absl::StatusCode::kPermissionDenied:
    case absl::StatusCode::kUnauthenticated:
      return ExitCode::kDenied;
    case absl::StatusCode::kFailedPrecondition:
      for (const absl::string_view reason : {"GATE_HOLDS", "GATE_ROLLS_BACK", "FENCE_WAITS"}) {
        if (ReasonOf(status) == reason) return ExitCode::kHolds;
      }
      return ExitCode::kError;
    default:
      return ExitCode::kError;
  }
}

void PrintError(const Streams& streams, const Style& style, absl::string_view message,
                absl::string_view hint) {
  streams.err << Paint(style, Tone::kBad, "error:") << " " << Printable(message) << "\n";
  if (!hint.empty()) streams.err << Paint(style, Tone::kFaint, "hint:") << " " << Printable(hint) << "\n";
  streams.err.flush();
}

Session::Session(const Settings& settings, const Streams& streams)
    : settings_(settings),
      streams_(streams),
      out_style_(StyleFor(streams, streams.out_is_terminal, settings.color)),
      err_style_(StyleFor(streams, streams.err_is_terminal, settings.color)),
      connection_(settings.address, settings.timeout, PrincipalOf(streams)),
      prng_(SystemSeed()) {}

RenderOptions Session::render_options() const {
  return {out_style_, absl::Now(), settings_.output == OutputFormat::kWide};
}

void Session::Out(absl::string_view text) {
  streams_.out.write(text.data(), static_cast<std::streamsize>(text.size()));
  streams_.out.flush();
}

void Session::Note(Glyph glyph, Tone tone, absl::string_view text) {
  streams_.err << Paint(err_style_, tone, GlyphText(err_style_, glyph)) << " " << Printable(text)
               << std::endl;
}

void Session::Print(const google::protobuf::Message& message, absl::string_view name,
                    absl::FunctionRef<std::string()> table) {
  switch (settings_.output) {
    case OutputFormat::kTable:
    case OutputFormat::kWide:
      return Out(table());
    case OutputFormat::kJson:
      return Out(ToJson(message, /*pretty=*/true));
    case OutputFormat::kJsonl:
      return Out(ToJson(message, /*pretty=*/false));
    case OutputFormat::kYaml:
      return Out(ToYaml(message));
    case OutputFormat::kName:
      return Out(absl::StrCat(name, "\n"));
  }
}

ExitCode Session::Fail(const absl::Status& status, absl::string_view hint) {
  PrintError(streams_, err_style_, MessageFor(status, settings_), "");
  if (const auto info = GetErrorInfo(status)) {
    for (const FieldViolation& violation : info->field_violations) {
      streams_.err << "  " << Printable(violation.field) << ": " << Printable(violation.description) << "\n";
    }
    streams_.err << RenderPreconditions(*info, err_style_);
  }
  const std::string help = hint.empty() ? HintFor(status, settings_) : std::string(hint);
  if (!help.empty()) streams_.err << Paint(err_style_, Tone::kFaint, "hint:") << " " << help << "\n";
  streams_.err.flush();
  return ExitCodeOf(status);
}

ExitCode Session::UsageError(absl::string_view message, absl::string_view hint) {
  PrintError(streams_, err_style_, message, hint);
  return ExitCode::kUsage;
}

ExitCode Session::Confirm(absl::string_view consequence, absl::string_view name) {
  return settings_.yes ? ExitCode::kOk : Ask(consequence, name, "--yes");
}

ExitCode Session::Ask(absl::string_view consequence, absl::string_view name, absl::string_view instead) {
  if (settings_.no_input || !streams_.in_is_terminal || !streams_.err_is_terminal) {
    return UsageError(
        absl::StrCat("this needs a confirmation, and there is no terminal to ask on: ", consequence),
        absl::StrCat("pass ", instead, " to confirm, or --dry-run to only check"));
  }
  Warn(consequence);
  streams_.err << "Type " << Paint(err_style_, Tone::kStrong, name) << " to go on: " << std::flush;
  std::string answer;
  std::getline(streams_.in, answer);
  if (absl::StripAsciiWhitespace(answer) == name) return ExitCode::kOk;
  PrintError(streams_, err_style_, absl::StrCat("\"", answer, "\" is not ", name, ": nothing was changed"),
             "");
  return ExitCode::kError;
}

}  // namespace lockstep::cli
