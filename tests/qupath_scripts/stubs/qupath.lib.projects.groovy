package qupath.lib.projects

import java.nio.file.Path

class Project {
    Path path
    boolean maskImageNames
}

class ProjectImageEntry {
    String imageName
}
