// Shows what is in a checkpoint, or what the model of a job file consists of.
//
//   cohort inspect runs/lenet
//   cohort inspect runs/lenet/checkpoints/best
//   cohort inspect jobs/lenet.toml --set model.hidden=[200,84]
#include <fmt/core.h>

#include <filesystem>
#include <string>
#include <vector>

#include "cohort/checkpoint/checkpoint.hpp"
#include "cohort/graph/model.hpp"
#include "cohort/job/job.hpp"
#include "cohort/train/trainer.hpp"

namespace cohort {
namespace {

/// The fields of data as a model sees them: any number of samples.
Batch placeholders(Graph& graph, const std::vector<Field>& fields) {
  Batch batch;
  for (const Field& field : fields) {
    Shape shape = field.shape;
    shape.insert(0, Shape::kUnknown);
    batch.fields.emplace(field.name, graph.placeholder(field.name, field.dtype, shape));
  }
  return batch;
}

void print_variables(const Graph& graph) {
  std::int64_t trained = 0, others = 0;
  fmt::print("\n  {:<32} {:<20} {:>12}  {}\n", "variable", "shape", "elements", "starts as");
  for (const Value& variable : graph.variables()) {
    const NodeData& node = graph.node(variable.node);
    const bool trainable = node.attrs.get<bool>("trainable");
    (trainable ? trained : others) += variable.shape().elements();
    fmt::print("  {:<32} {:<20} {:>12}  {}{}\n", node.name, variable.shape().text(), variable.shape().elements(),
               node.attrs.get<std::string>("init"), trainable ? "" : " (not trained)");
  }
  fmt::print("\n  {} parameters, {:.2f} MiB as float32", trained, static_cast<double>(trained) * 4 / (1 << 20));
  if (others > 0) fmt::print("; {} elements that are not trained", others);
  fmt::print("\n");
}

/// The model of a job file on the fields of its data.
void print_model(Communicator& alone, Section& config) {
  const JobFields given = fields_of_job(alone, config);
  std::string type = "mlp";
  Section& section = config.child("model");
  const auto& known = Registry<ModelType>::instance();
  section.bind("type", type, "which network", one_of(known.names()));
  const ModelBuilder build = known.get(type).make(section);
  section.finish();
  Graph graph;
  const Batch batch = placeholders(graph, given.fields);
  const Model model = build(graph, batch);
  fmt::print("model {} on", type);
  for (const Field& field : given.fields) fmt::print(" {} {}{}", field.name, name(field.dtype), field.shape.text());
  fmt::print(", of {}\n", given.from);
  print_variables(graph);
  fmt::print("  {} nodes; reports loss", graph.size());
  for (const auto& [name, value] : model.metrics) fmt::print(", {}", name);
  if (model.output) fmt::print("; output {}", model.output.signature().text());
  fmt::print("\n");
}

int inspect(Communicator& world, JobArguments& arguments) {
  check(!arguments.argument.empty(), Code::invalid_argument, "inspect needs a checkpoint or a job file; see inspect --help");
  if (world.rank() != 0) return kExitDone;
  if (arguments.argument.ends_with(".toml")) {
    Communicator alone = world.alone();
    print_model(alone, arguments.config);
    return kExitDone;
  }
  arguments.config.finish();
  std::filesystem::path path = arguments.argument;
  if (std::filesystem::is_directory(path / "checkpoints")) path /= "checkpoints";
  const CheckpointDescription description = describe_checkpoint(path);
  fmt::print("{}", description.text());
  return description.intact() ? kExitDone : kExitError;
}

const Registered<JobType> job{"inspect",
                              {.summary = "shows a checkpoint, or the model of a job file",
                               .argument = JobArgument::text,
                               .argument_help = "a checkpoint, a run's directory, or a job file (.toml)",
                               .help = "  cohort inspect runs/lenet\n"
                                       "  cohort inspect runs/lenet/checkpoints/best\n"
                                       "  cohort inspect jobs/lenet.toml --set model.hidden=[200,84]\n",
                               .reads_only = true,
                              .run = inspect}};

}  // namespace
}  // namespace cohort
