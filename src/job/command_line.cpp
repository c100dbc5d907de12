#include "job/command_line.hpp"

#include <dlfcn.h>
#include <fmt/core.h>

#include <CLI/CLI.hpp>
#include <filesystem>

#include "cohort/base/library.hpp"

namespace cohort {
namespace {

constexpr std::string_view kOptions = R"(
Options:
  --set KEY=VALUE      override a value of the job file, as in --set optimizer.learning_rate=0.01; may be repeated
  --plugin FILE.so     load a library with ops, models, optimizers or jobs of your own first; may be repeated
  --help               this text, or with a job the job's own
  --version            the version of this program
)";

const Registered<Library> cli11{"CLI11", {"command line", [] { return std::string(CLI11_VERSION); }}};
const Registered<Library> fmt_library{"fmt", {"texts", [] {
  return fmt::format("{}.{}.{}", FMT_VERSION / 10000, FMT_VERSION / 100 % 100, FMT_VERSION % 100);
}}};

}  // namespace

CommandLine parse_command_line(int argc, const char* const* argv) {
  CommandLine line;
  if (argc > 0) line.program = std::filesystem::path(argv[0]).filename().string();
  CLI::App app;
  app.set_help_flag();
  app.add_option("job", line.job);
  app.add_option("argument", line.argument);
  app.add_option("--set", line.settings)->type_name("KEY=VALUE")->allow_extra_args(false);
  app.add_option("--plugin", line.plugins)->type_name("FILE.so")->allow_extra_args(false);
  app.add_option("--resume", line.resume)->type_name("PATH or auto");
  app.add_flag("-h,--help", line.help);
  app.add_flag("--version", line.version);
  try {   // CLI11 speaks in exceptions of its own
    app.parse(argc, argv);
  } catch (const CLI::ParseError& error) {
    fail(Code::invalid_argument, fmt::format("{}; see {} --help", error.what(), line.program));
  }
  return line;
}

std::string usage_text(const std::string& program) {
  std::string text = fmt::format(
      "{0}: data-parallel training of neural nets with MPI\n\n"
      "  {0} JOB [ARGUMENT] [OPTIONS]                    one process\n"
      "  mpirun -n 4 {0} JOB [ARGUMENT] [OPTIONS]        four ranks that train together\n\nJobs ({0} JOB --help tells "
      "more):\n",
      program);
  for (const auto& [name, entry] : Registry<JobType>::instance().entries()) {
    text += fmt::format("  {:<19}  {}\n", name, entry.value.summary);
  }
  text += kOptions;
  return text + fmt::format("\nTo begin: {0} doctor, then {0} train jobs/lenet.toml\n", program);
}

std::string help_text(const std::string& program, const std::string& name, const JobType& job) {
  if (job.alone) return fmt::format("{}: {}\n\n{}", name, job.summary, job.help);
  std::string call = program + " " + name, argument;
  if (job.argument != JobArgument::none) {
    const std::string_view placeholder = job.argument == JobArgument::job_file ? "JOB.toml" : "ARGUMENT";
    call += fmt::format(" [{}]", placeholder);
    argument = fmt::format("\n  {:<19}  {}", placeholder, job.argument_help);
  }
  std::string text = fmt::format("{}: {}\n\n  {} [OPTIONS]\n{}\n", name, job.summary, call, argument);
  if (job.resumes) text += "  --resume PATH|auto   go on from this checkpoint, or from the latest one of this run\n";
  text += kOptions;
  if (!job.help.empty()) text += "\n" + job.help;
  if (text.back() != '\n') text += '\n';
  return text;
}

void load_plugin(const std::string& file) {
  // A bare name would be looked up in the system's library folders; a plug-in is a file.
  const std::string path = file.find('/') == std::string::npos ? "./" + file : file;
  if (dlopen(path.c_str(), RTLD_NOW | RTLD_GLOBAL) == nullptr) {
    fail(Code::invalid_argument, fmt::format("--plugin {}: cannot load: {}", file, dlerror()));
  }
}

}  // namespace cohort
