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

class DefaultScriptableWorkflowStep extends WorkflowStep {
    Map<String, ?> parameters

    DefaultScriptableWorkflowStep(String name, Map<String, ?> parameterMap, String script) {
        this.name = name
        this.parameters = parameterMap
    }

    Map<String, ?> getParameterMap() { return parameters }
}

class Workflow {
    final List<WorkflowStep> steps = []

    void addStep(WorkflowStep step) { steps << step }
}
