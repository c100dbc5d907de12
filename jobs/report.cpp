// Makes one web page of a run's folder: curves, where the time went, memory, configuration. It needs nothing else, so it can
// be mailed or put anywhere.
//
//   cohort report runs/lenet
//   cohort report runs/lenet --set output=lenet.html
#include <fmt/core.h>

#include <filesystem>
#include <fstream>
#include <iterator>
#include <string>
#include <string_view>

#include "cohort/base/json.hpp"
#include "cohort/job/job.hpp"

namespace cohort {

/// jobs/report.html, compiled in.
extern const std::string_view kReportPage;

namespace {

namespace fs = std::filesystem;

/// Empty if there is no such file.
std::string contents(const fs::path& file) {
  std::ifstream in(file, std::ios::binary);
  return {std::istreambuf_iterator<char>(in), {}};
}

/// JSON inside a <script>: nothing in its strings can end that.
std::string for_script(std::string_view json) {
  std::string result;
  for (const char c : json) {
    if (c == '<') result += "\\u003c";        // in JSON it can only be part of a string
    else result += c;
  }
  return result;
}

std::string for_html(std::string_view text) {
  std::string result;
  for (const char c : text) {
    if (c == '<') result += "&lt;";
    else if (c == '&') result += "&amp;";
    else result += c;
  }
  return result;
}

/// The lines of a metrics file as a JSON list; a last line that a crash tore is left out.
std::string list_of_lines(std::string_view lines) {
  std::string result = "[";
  for (std::size_t end = lines.find('\n'); end != std::string_view::npos; end = lines.find('\n')) {
    if (end > 0 && lines[end - 1] == '}') {
      if (result.size() > 1) result += ",\n";
      result += lines.substr(0, end);
    }
    lines.remove_prefix(end + 1);
  }
  return result + "]";
}

void replace(std::string& page, std::string_view mark, std::string_view text) { page.replace(page.find(mark), mark.size(), text); }

std::string page_of(const fs::path& run) {
  const std::string summary = contents(run / "summary.json");
  const std::string name = fs::weakly_canonical(run).filename().string();
  std::string data = fmt::format("{{\"name\":{},\n\"metrics\":{},\n\"summary\":{},\n\"configuration\":{}}}", json_text(name),
                                 list_of_lines(contents(run / "metrics.jsonl")), summary.empty() ? "null" : summary,
                                 json_text(contents(run / "configuration.toml")));
  std::string page(kReportPage);
  replace(page, "@TITLE@", for_html(name) + " – Cohort");
  replace(page, "@DATA@", for_script(data));
  return page;
}

int report(Communicator& world, JobArguments& arguments) {
  std::string output;
  arguments.config.bind_path("output", output, "the page's file; empty: report.html in the run's folder");
  arguments.config.finish();
  check(!arguments.argument.empty(), Code::invalid_argument, "report needs a run's folder; see report --help");
  if (world.rank() != 0) return kExitDone;
  const fs::path run = arguments.argument;
  check(fs::exists(run / "metrics.jsonl"), Code::not_found, run.string() + " is no run's folder: it has no metrics.jsonl");
  const fs::path file = output.empty() ? run / "report.html" : fs::path(output);
  std::ofstream out(file, std::ios::binary);
  out << page_of(run);
  out.close();
  check(!out.fail(), Code::data_loss, "cannot write " + file.string());
  fmt::print("{}\n", file.string());
  return kExitDone;
}

const Registered<JobType> job{"report",
                              {.summary = "makes one web page of a run's folder",
                               .argument = JobArgument::text,
                               .argument_help = "a run's folder, as runs/lenet; the run may still go on",
                               .help = "  cohort report runs/lenet\n"
                                       "  cohort report runs/lenet --set output=lenet.html\n",
                               .reads_only = true,
                               .run = report}};

}  // namespace
}  // namespace cohort
