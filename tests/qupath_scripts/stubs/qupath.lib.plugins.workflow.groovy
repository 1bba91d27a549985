package qupath.lib.plugins.workflow

class WorkflowStep {
    String name
    Map<String, ?> getParameterMap() { return [:] }
}

class SimplePluginWorkflowStep extends WorkflowStep {
    String pluginClass
    Map<String, String> arguments = [:]

    Map<String, ?> getParameterMap() { return arguments }
}

class Workflow {
    final List<WorkflowStep> steps = []
}
