//! Where the thing lies that a call is about, as the caller sees it: own or other org, own or other project, his or
//! another's; and which of two sets of values it has, so that each condition comes out both ways.

use std::fmt;

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) enum OrgAxis {
    Own,
    Other,
    /// In no org: records at home GLOBAL alone.
    None,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) enum ProjectAxis {
    /// The one of which the caller holds roles at a project.
    Own,
    Other,
    None,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) enum OwnerAxis {
    Caller,
    /// A member of the org.
    Another,
}

/// Two sets of values for the fields of a record.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) enum Filling {
    /// False, the first value, a time that has passed, another's id.
    Plain,
    /// True, the last value, a time to come, the caller's id.
    Full,
}

/// A place. Axes that a record does not have stand at their first value.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct Spot {
    pub(crate) org: OrgAxis,
    pub(crate) project: ProjectAxis,
    pub(crate) owner: OwnerAxis,
    pub(crate) filling: Filling,
}

/// The values that each axis takes for one method; an axis with one value is none.
#[derive(Debug, Clone)]
pub(crate) struct Axes {
    pub(crate) org: Vec<OrgAxis>,
    pub(crate) project: Vec<ProjectAxis>,
    pub(crate) owner: Vec<OwnerAxis>,
    pub(crate) filling: Vec<Filling>,
}

impl Default for Axes {
    fn default() -> Self {
        Self {
            org: vec![OrgAxis::Own],
            project: vec![ProjectAxis::Own],
            owner: vec![OwnerAxis::Another],
            filling: vec![Filling::Plain],
        }
    }
}

impl Axes {
    pub(crate) fn spots(&self) -> Vec<Spot> {
        let mut spots = Vec::new();
        for &org in &self.org {
            for &project in &self.project {
                for &owner in &self.owner {
                    spots.extend(self.filling.iter().map(|&filling| Spot { org, project, owner, filling }));
                }
            }
        }
        spots
    }

    /// The first place: where one is as good as another.
    pub(crate) fn first(&self) -> Spot {
        self.spots()[0]
    }

    /// The place in the words of the report: of each axis that there is.
    pub(crate) fn name(&self, spot: Spot) -> String {
        let mut words = Vec::new();
        if self.org.len() > 1 {
            words.push(spot.org.to_string());
        }
        if self.project.len() > 1 {
            words.push(spot.project.to_string());
        }
        if self.owner.len() > 1 {
            words.push(spot.owner.to_string());
        }
        if self.filling.len() > 1 {
            words.push(spot.filling.to_string());
        }
        words.join(" ")
    }
}

impl Filling {
    pub(crate) fn opposite(self) -> Self {
        match self {
            Self::Plain => Self::Full,
            Self::Full => Self::Plain,
        }
    }
}

impl fmt::Display for OrgAxis {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Own => "own-org",
            Self::Other => "other-org",
            Self::None => "no-org",
        })
    }
}

impl fmt::Display for ProjectAxis {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Own => "own-project",
            Self::Other => "other-project",
            Self::None => "no-project",
        })
    }
}

impl fmt::Display for OwnerAxis {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Caller => "mine",
            Self::Another => "another's",
        })
    }
}

impl fmt::Display for Filling {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Plain => "plain",
            Self::Full => "full",
        })
    }
}
